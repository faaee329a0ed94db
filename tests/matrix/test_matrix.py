"""What `make matrix` installs and runs."""

from tests.matrix.__main__ import QUICK, ROOT, oldest, requirements


def test_its_tests_are_there() -> None:
    assert [path for path in QUICK if not (ROOT / path).exists()] == []


def test_each_requirement_has_a_lower_bound() -> None:
    ours, _ = requirements()
    assert oldest("ray[default,train]>=2.50,<3") == "ray[default,train]==2.50"
    assert all("==" in oldest(one) for one in ours)
