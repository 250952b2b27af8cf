"""What MLflow's own client sees on a server, as JSON: for lungai-track's tests against the real MLflow. Needs mlflow 3.

usage: track_mlflow.py URL [MODEL@ALIAS ...]    every run of every experiment; the files of registered versions
"""
import hashlib
import json
import os
import sys
import tempfile

import mlflow
from mlflow.tracking import MlflowClient

os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
url = sys.argv[1]
mlflow.set_tracking_uri(url)
client = MlflowClient(url)


def digests(folder):
    found = {}
    for place, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(place, name)
            found[os.path.relpath(path, folder)] = hashlib.sha256(open(path, "rb").read()).hexdigest()
    return found


def seen(run):
    points = [(key, m.step, m.timestamp, repr(m.value)) for key in run.data.metrics for m in client.get_metric_history(run.info.run_id, key)]
    inputs = [
        {"name": i.dataset.name, "digest": i.dataset.digest, "source": i.dataset.source, "tags": {t.key: t.value for t in i.tags}}
        for i in run.inputs.dataset_inputs
    ]
    with tempfile.TemporaryDirectory() as folder:
        mlflow.artifacts.download_artifacts(run_id=run.info.run_id, dst_path=folder)
        files = digests(folder)
    return {
        "name": run.info.run_name, "status": run.info.status, "start_time": run.info.start_time, "end_time": run.info.end_time,
        "params": run.data.params, "tags": run.data.tags, "points": sorted(points), "inputs": inputs, "files": files,
    }


result = {"version": mlflow.__version__, "experiments": {}}
for experiment in client.search_experiments():
    result["experiments"][experiment.name] = [seen(run) for run in client.search_runs([experiment.experiment_id])]
result["models"] = {}
for model in sys.argv[2:]:
    name, alias = model.split("@")
    version = client.get_model_version_by_alias(name, alias)
    with tempfile.TemporaryDirectory() as folder:
        mlflow.artifacts.download_artifacts(artifact_uri=f"models:/{model}", dst_path=folder)
        files = digests(folder)
    count = len(client.search_model_versions(f"name='{name}'"))
    result["models"][name] = {"version": str(version.version), "tags": version.tags, "description": version.description, "files": files, "count": count}
print(json.dumps(result))
