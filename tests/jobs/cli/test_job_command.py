"""What all jobs check before they start."""

from typer.testing import CliRunner

from jobs import cli


def test_a_variable_that_the_configuration_names_must_be_set(monkeypatch, tmp_path):
    """Its value is in no configuration: `--dry-run` and `--submit` ask for names alone."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MINE", raising=False)
    arguments = ["prepare", "output=x", "data.inputs=[nothing.txt]", "ray.environment=[MINE]"]
    result = CliRunner().invoke(cli.app, arguments)
    assert result.exit_code == 2 and "ray.environment: MINE not set on " in result.stderr
    monkeypatch.setenv("MINE", "hunter2")
    result = CliRunner().invoke(cli.app, arguments)
    assert result.exit_code == 2 and "nothing.txt" in result.stderr
    shown = CliRunner().invoke(cli.app, [*arguments, "--dry-run"])
    assert "- MINE" in shown.stdout and "hunter2" not in shown.stdout
    result = CliRunner().invoke(cli.app, [*arguments[:-1], "ray.environment=[MINE=hunter2]"])
    assert result.exit_code == 2
