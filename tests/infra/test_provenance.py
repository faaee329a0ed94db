from infra.provenance import code_versions, git_commit, ray_job_tags


def test_a_submitted_job_has_its_commit_from_the_environment(monkeypatch):
    monkeypatch.setenv("SLLM_GIT_COMMIT", "c0ffee")
    assert git_commit() == "c0ffee" and code_versions()["git"] == "c0ffee"


def test_the_ray_job_is_named_by_its_submission(monkeypatch):
    monkeypatch.delenv("RAY_JOB_ID", raising=False)
    monkeypatch.delenv("RAY_JOB_SUBMISSION_ID", raising=False)
    monkeypatch.delenv("RAY_JOB_CONFIG_JSON_ENV_VAR", raising=False)
    assert ray_job_tags() == {}
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", '{"metadata": {"job_submission_id": "raysubmit_1"}}')
    assert ray_job_tags() == {"ray.submission_id": "raysubmit_1"}
