"""Waits for the end of a job on Vertex AI."""

from __future__ import annotations

import time

from google.api_core.retry import Retry
from google.cloud import aiplatform_v1

from launch.account import LOGIN, google_errors, login
from launch.errors import LaunchError
from launch.vertex.request import TrainingJob

POLL_SECONDS = 30.0
_RETRY = Retry(timeout=900.0)  # a job of days outlives a service that does not answer for minutes
_CURES = {401: LOGIN, 403: "ask for the role Vertex AI User in the project"}
_State = aiplatform_v1.JobState
_FAILED = (_State.JOB_STATE_FAILED, _State.JOB_STATE_CANCELLED, _State.JOB_STATE_EXPIRED)
# A job of which a part succeeded is a search whose other trials failed: its best trial can be used.
_DONE = (_State.JOB_STATE_SUCCEEDED, _State.JOB_STATE_PARTIALLY_SUCCEEDED, *_FAILED)


def wait_for(job: TrainingJob, name: str, endpoint: str | None) -> None:
    """Waits until the job has ended, and prints each change of its state.

    Args:
      name: resource name of the job.
      endpoint: address of the service; None is Google's in the region of the job.

    Raises:
      LaunchError: it did not succeed, or Google refused or could not be reached.
    """
    options = {"api_endpoint": endpoint or f"{job.region}-aiplatform.googleapis.com"}
    client = aiplatform_v1.JobServiceClient(credentials=login(), transport="rest", client_options=options)
    get = client.get_hyperparameter_tuning_job if job.search else client.get_custom_job
    before = None
    with client, google_errors(name, _CURES, "; the job continues"):
        while (now := get(name=name, retry=_RETRY)).state not in _DONE:
            if now.state != before:
                before = _State(now.state)
                print(f"{before.name.removeprefix('JOB_STATE_').lower()}", flush=True)
            time.sleep(POLL_SECONDS)
    if now.state in _FAILED:
        reason = f", {now.error.message}" if now.error.message else ""
        raise LaunchError(
            f"{name} ended as {_State(now.state).name}{reason}; see its log, and run the same command again to resume"
        )
    print("the job has succeeded")
