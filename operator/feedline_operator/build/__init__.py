"""The Job of a pipeline, and the Service by which its pods find each other where there are several, as plain dicts.

Pure: the same pipeline gives the same of both, byte for byte. Knows the API's shapes and neither clients nor clocks.
"""

from feedline_operator.build.job import build_job
from feedline_operator.build.manifest import manifest_text
from feedline_operator.build.owned import owner
from feedline_operator.build.service import build_service
from feedline_operator.build.size import nodes_of, processes_of
from feedline_operator.build.volumes import lost_image_volumes, own_folder

__all__ = [
    "build_job",
    "build_service",
    "lost_image_volumes",
    "manifest_text",
    "nodes_of",
    "own_folder",
    "owner",
    "processes_of",
]
