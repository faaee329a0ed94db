"""Files of a folder that hold no documents: metadata of writers and desktops, and descriptions of data."""

import json
import re
from collections.abc import Mapping, Sequence

from pipeline.corpus.files.listing import FoundFile, Listing
from pipeline.corpus.opening.streams import first_bytes, open_binary
from pipeline.errors import CorpusError
from pipeline.output_files import RECORD_NAME, is_of_job

METADATA = "metadata file"
"""A reason to leave a file out."""
_NEVER_DATA = re.compile(
    r"_SUCCESS|_metadata|_common_metadata|_committed_.*|_started_.*|.*\.crc|.*_\$folder\$"
    r"|Thumbs\.db|desktop\.ini"
)
_NEVER_DATA_FOLDERS = frozenset(("_temporary", "_delta_log", "_spark_metadata", "__MACOSX", "__pycache__"))
_UNFINISHED = re.compile(
    r".*(~|\.(bak|orig|swp|tmp|temp|part|partial|crdownload|aria2|lock|inprogress))|#.*#", re.IGNORECASE
)
_BESIDE_DATA = re.compile(
    r"(README|LICEN[CS]E|COPYING|NOTICE|CITATION|CHANGELOG|AUTHORS)([.\-_].*)?|dataset_infos?\.json"
    r"|.*\.(md5|sha1|sha256|sha512)|(MD5|SHA1|SHA256|SHA512)SUMS?(\.txt)?|checksums?(\.txt)?",
    re.IGNORECASE,
)


def exclude_metadata(listing: Listing) -> None:
    """Exclude from the files of a folder or glob those that are never data, and those that are not part of a saved data
    set.

    Raises `CorpusError` for a saved data set with several splits: the input must name one.
    """
    by_name = {file.name: file for file in listing.files}
    left_out = {
        name: METADATA
        for name in by_name
        if _NEVER_DATA.fullmatch(name.rpartition("/")[2]) or _NEVER_DATA_FOLDERS.intersection(name.split("/"))
    }
    left_out |= {
        name: "backup or unfinished file"
        for name in by_name
        if _UNFINISHED.fullmatch(name.rpartition("/")[2])
    }
    for name, file in by_name.items():
        folder, slash, last = name.rpartition("/")
        within = folder + slash
        if last in (RECORD_NAME, "manifest.json") and _is_our_record(file):
            left_out |= {
                other: "file of shards"
                for other in by_name
                if other.startswith(within) and is_of_job(other.removeprefix(within), "shards")
            }
            left_out[name] = METADATA
    for name, file in by_name.items():
        folder = name.rpartition("/")[0]
        last = name.rpartition("/")[2]
        within = f"{folder}/" if folder else ""
        if last == "dataset_dict.json":
            splits = _json(file).get("splits")
            if isinstance(splits, list):
                there = [s for s in splits if any(other.startswith(f"{within}{s}/") for other in by_name)]
                if len(there) > 1:
                    path = file.path.rpartition("/")[0]
                    raise CorpusError(
                        f"input {path!r} is a data set with the splits {', '.join(map(repr, there))}; name those to "
                        f"read, as in data.inputs=[{path}/{there[0]}]"
                    )
                left_out[name] = METADATA
        elif last == "state.json" and f"{within}dataset_info.json" in by_name:
            files = _json(file).get("_data_files")
            if isinstance(files, list):
                kept = {one.get("filename") for one in files if isinstance(one, dict)}
                left_out |= {name: METADATA, f"{within}dataset_info.json": METADATA}
                left_out |= {
                    other: "file that is no part of the saved data set"
                    for other in by_name
                    if other.endswith(".arrow")
                    and other.rpartition("/")[0] == folder
                    and other.rpartition("/")[2] not in kept
                }
    exclude(listing, left_out)


def beside_data(files: Sequence[FoundFile], is_data: Mapping[str, bool]) -> dict[str, str]:
    """Name and reason of each file that describes data: a README beside data files, or in a folder above them.

    `is_data`: by name, whether a file is of a format that is more than one text.
    """
    describing = {file.name for file in files if _describes(file)}
    data_folders = {
        "/".join(name.split("/")[:depth])
        for name, yes in is_data.items()
        if yes and name not in describing
        for depth in range(name.count("/") + 1)
    }
    return {name: METADATA for name in describing if name.rpartition("/")[0] in data_folders}


def exclude(listing: Listing, left_out: Mapping[str, str]) -> None:
    """Move these names from the files of the listing to the excluded ones."""
    for name, reason in sorted(left_out.items()):
        listing.left_out.setdefault(reason, []).append(name)
    listing.files = [file for file in listing.files if file.name not in left_out]


def _describes(file: FoundFile) -> bool:
    last = file.name.rpartition("/")[2]
    if last in (RECORD_NAME, "manifest.json"):
        return _is_our_record(file)
    return _BESIDE_DATA.fullmatch(last) is not None


def _is_our_record(file: FoundFile) -> bool:
    """Whether sllm wrote this `manifest.json` or `job.json`."""
    start = first_bytes(file.path, 4096)
    return b'"identity"' in start and (b'"format_version"' in start or b'"job"' in start)


def _json(file: FoundFile) -> dict[str, object]:
    with open_binary(file.path, in_order=True) as stream:
        try:
            tree = json.loads(stream.read())
        except (ValueError, RecursionError):
            return {}
    return tree if isinstance(tree, dict) else {}
