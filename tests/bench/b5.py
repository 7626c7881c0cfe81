"""B5: publishing orders, 256 confirms in flight, beside the bare client."""

from b4 import at_a_place
from services import measure


def run(binary, rounds, messages):
    """Messages a second; the ratio is to the bare client into the very same queue."""
    found = at_a_place(lambda place: measure(binary, "publish", place, messages=messages, rounds=rounds))
    bare = [("bare client, same queue", found["same"]), ("no bounds", found["quorum"]), ("classic", found["classic"])]
    return [
        {"id": "B5", "what": "orders published, signed", "ours": found["ours"], "unit": "/s",
         "least": 0.9 * found["same"], "beside": bare},
        {"id": "B5", "what": "reports published, not signed", "ours": found["reports"], "unit": "/s",
         "least": 0.9 * found["same"], "beside": bare[:1]},
    ]
