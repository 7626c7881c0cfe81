"""What people ask of a history of a million events in PostgreSQL."""

from b4 import at_a_place
from services import measure


def run(binary, rounds):
    """Milliseconds of each question."""
    found = at_a_place(lambda place: measure(binary, "questions", postgres=place.server, rounds=rounds))
    return [
        {"id": "audit", "what": f"{one['what']} ({one['rows']})", "ours": one["ms"], "unit": "ms", "most": 50,
         "beside": [("the first time", one["first_ms"])]}
        for one in found
    ]
