"""Redaction of all text that is written or printed: credentials, signed queries and tokens become `***`."""

import re
from collections.abc import Mapping
from typing import Any

MASK = "***"

_URL = re.compile(r"(?<![A-Za-z0-9+.\-])[A-Za-z][A-Za-z0-9+.\-]*://[^\s\"<>`\\]*")
"""A URL, or a chain of them as fsspec writes it, up to white space, a double quote or a backslash."""
_USER = re.compile(r"([A-Za-z0-9+.\-]+://)((?:(?!://)[^/?#])*)@")
"""User and password before the host, up to the last `@` before the path."""
_USER_WITH_SLASH = re.compile(r"(://[^:/?#@]*):(?!\d{1,5}(?:[/?#]|$))(?:(?!://)[^@])*@")
"""A password that contains a slash, as databases accept it."""
_NAMES_A_CONTAINER = {"abfs", "abfss", "wasb", "wasbs"}
"""Schemes in which `container@account` is part of the path."""
_NAMES_A_USER = {"sftp", "ssh", "scp", "ftp", "hdfs", "webhdfs", "smb", "file"}
"""Schemes in which a user without a password is no secret; elsewhere it may be a token."""
_QUERY = re.compile(r"\?(?:(?!'?,'?[A-Za-z][A-Za-z0-9+.\-]*://|::[a-z0-9]+://)[^#])*")

_CREDENTIAL_NAME = (
    r"(?:password|passwd|passphrase|pwd|secret|token|(?:api|access|private|secret|account|shared|signing|encryption)"
    r"[_-]?key|key_?id|credentials?|signature|connection_?string)"
)
_HARMLESS_NAME = (
    r"(?:bos|eos|pad|unk|cls|sep|mask|per|a|each|special|next|every|first|last|start|end|stop)[_ -]token"
)
_SECRET_KEY = re.compile(rf"(?!.*{_HARMLESS_NAME}$).*{_CREDENTIAL_NAME}$", re.IGNORECASE)
_SECRET_VALUE = re.compile(
    rf"(?<![\w.\-])(?![\w.\-]*{_HARMLESS_NAME}\b)([\w.\-]*{_CREDENTIAL_NAME}"
    r"(?:[\"']?\s{0,4}=\s{0,4}|[\"']\s{0,4}:\s{0,4}|(?<!token)(?<!secret):\s{0,4}|:\s{0,4}(?=[\w+/=.\-]{12})))"
    r"(?!None\b|null\b|\*\*\*)(?:\"[^\"\n]*\"?|'[^'\n]*'?|[^\s\"',;&}\])]+)",
    re.IGNORECASE,
)
_SECRET_PARAMETER = re.compile(
    r"([?&;](?:[\w.\-]*(?:sig|signature|token|key|secret|password|credential)|x-(?:amz|goog|ms)-[\w\-]+"
    r"|AWSAccessKeyId)=)[^&\s\"'<>#\\]+",
    re.IGNORECASE,
)
_USER_FROM_ENVIRONMENT = re.compile(r"(?<=://)(?:(?:\$\{\w+\}|[\w.%+\-]*):)?\$\{\w+\}@")
"""`${NAME}` in place of a password or token."""
_FROM_ENVIRONMENT = re.compile(r"([=:]\s{0,4}[\"']?)\$\{\w+\}(?=[&\s\"'<>#\\\]}),;]|$)")
"""A value that is `${NAME}` alone."""
_AUTHORIZATION = re.compile(
    r"(authorization[\"']?\s{0,4}[:=]\s{0,4}[\"']?(?:bearer|basic|token|digest)\s+)[^\s\"',]+"
    r"|(\bbearer\s+)(?!token|auth)[\w.~+/=\-]+",
    re.IGNORECASE,
)
_TOKEN = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{20,}|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|glpat-[\w\-]{16,}|xox[abprs]-[\w\-]{10,}"
    r"|(?:AKIA|ASIA)[A-Z0-9]{16}|sk-[\w\-]{20,}|dapi[0-9a-f]{32}|eyJ[\w\-]{8,}\.[\w\-]+\.[\w\-]+)"
)
_PRIVATE_KEY = re.compile(r"(-----BEGIN [A-Z ]*PRIVATE KEY-----)[^-]*")


def redacted(text: str) -> str:
    """`text` without secrets, for printing and writing; never for a path or URL that is opened.

    It masks: user, password and query of each URL, also in fsspec chains; values of names such as `password=` or
    `"api_key":`; bearer tokens, known forms of tokens, private keys. The time is linear in the text.
    """
    text = _URL.sub(_plain_url, text)
    text = _SECRET_PARAMETER.sub(rf"\1{MASK}", text)
    text = _AUTHORIZATION.sub(lambda match: f"{match[1] or match[2]}{MASK}", text)
    text = _SECRET_VALUE.sub(rf"\1{MASK}", text)
    return _PRIVATE_KEY.sub(rf"\1{MASK}", _TOKEN.sub(MASK, text))


def redacted_tree(value: Any, key: str = "") -> Any:
    """Mappings and lists with each string redacted, and each value whose key names a secret masked."""
    if isinstance(value, Mapping):
        return {name: redacted_tree(child, str(name)) for name, child in value.items()}
    if isinstance(value, list | tuple):
        return [redacted_tree(child, key) for child in value]
    if isinstance(value, str) and value:
        return MASK if _SECRET_KEY.match(key) else redacted(value)
    return value


def is_secret(text: str) -> bool:
    """Whether the text contains a secret. A query like `?download=true` is none, nor is `${NAME}`, an environment
    variable that is not resolved yet."""
    text = _FROM_ENVIRONMENT.sub(rf"\1{MASK}", _USER_FROM_ENVIRONMENT.sub("", text))
    without_queries = _URL.sub(lambda match: _QUERY.sub("", match[0]), text)
    shown = (match[0] for match in _SECRET_PARAMETER.finditer(text))
    return redacted(without_queries) != without_queries or any(
        parameter.partition("=")[2].rstrip("]}),;") != MASK for parameter in shown
    )


def _plain_url(match: re.Match[str]) -> str:
    url = _USER.sub(_plain_user, match[0])
    url = _USER_WITH_SLASH.sub(f"://{MASK}@", url)
    is_web = re.search("https?://", url, re.IGNORECASE) is not None

    def plain_query(found: re.Match[str]) -> str:
        query = found[0]
        kept = query.rstrip(")]},.;:'")
        if len(kept) == 1 or not (is_web or "=" in query):
            return query  # `?` as in a pattern of names
        return f"?{MASK}{query[len(kept) :]}"

    return _QUERY.sub(plain_query, url)


def _plain_user(match: re.Match[str]) -> str:
    scheme = match[1].removesuffix("://").rpartition("::")[2].lower()
    if scheme in _NAMES_A_CONTAINER or (scheme in _NAMES_A_USER and ":" not in match[2]):
        return match[0]
    return f"{match[1]}{MASK}@"
