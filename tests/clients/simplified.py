"""Draws a workflow through comfy-api-simplified, then draws on in the picture, and tells what came of it as JSON."""

import json
import sys
from pathlib import Path

from comfy_api_simplified import ComfyApiWrapper, ComfyWorkflowWrapper

url, file, again, out = sys.argv[1:]
api = ComfyApiWrapper(url)

workflow = ComfyWorkflowWrapper(file)
workflow.set_node_param("KSampler 3", "seed", 8)
drawn = api.queue_and_wait_images(workflow, "SaveImage 9")
for name, data in drawn.items():
    Path(out, name).write_bytes(data)

(name,) = drawn
sent = api.upload_image(Path(out, name))
workflow = ComfyWorkflowWrapper(again)
workflow.set_node_param("LoadImage 10", "image", f"{sent['subfolder']}/{sent['name']}")
for name, data in api.queue_and_wait_images(workflow, "SaveImage 9").items():
    Path(out, f"again-{name}").write_bytes(data)

stats = api.get_system_stats()["system"]
told = {"queue": api.get_queue(), "sent": sent, "nodes": list(api.get_object_info("KSampler")), "os": stats["os"]}
sys.stdout.write(json.dumps(told))
