"""Submits a pipeline to Vertex AI Pipelines: uploads the package, creates the pipeline job."""

from __future__ import annotations

import json
from typing import Any

from google.cloud import aiplatform_v1, storage

from launch.account import login
from launch.pipeline.options import PipelineSettings
from launch.vertex.package import Package
from launch.vertex.submit import creating, upload

_SECONDS = 120.0  # timeout of the request


def make_request(settings: PipelineSettings, spec: dict[str, Any]) -> dict[str, Any]:
    """The body of the request that creates the PipelineJob."""
    job = settings.job
    request: dict[str, Any] = {
        "displayName": job.name,
        "pipelineSpec": spec,
        "runtimeConfig": {"gcsOutputDirectory": f"{job.output}/pipeline"},
    }
    if job.labels:
        request["labels"] = dict(job.labels)
    if job.service_account:
        request["serviceAccount"] = job.service_account
    return request


def submit(settings: PipelineSettings, request: dict[str, Any], package: Package) -> str:
    """Uploads the package and creates the pipeline job. -> its resource name.

    Raises:
      LaunchError: a request was refused. No job was created unless the message says so.
    """
    job, credentials = settings.job, login()
    client = storage.Client(project=job.project, credentials=credentials)
    try:
        upload(client, package)
    finally:
        client.close()
    options = {"api_endpoint": settings.endpoint or f"{job.region}-aiplatform.googleapis.com"}
    service = aiplatform_v1.PipelineServiceClient(credentials=credentials, transport="rest", client_options=options)
    pipeline = aiplatform_v1.PipelineJob.from_json(json.dumps(request))
    with service, creating("the pipeline", "check in the console"):
        made = service.create_pipeline_job(parent=job.parent, pipeline_job=pipeline, timeout=_SECONDS)
    return str(made.name)
