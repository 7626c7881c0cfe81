"""B6: a million lines from an agent's spool to the database."""

from b4 import at_a_place
from services import measure


def run(binary, rounds, lines):
    """Lines a second, and the agent's memory."""
    found = at_a_place(lambda place: measure(binary, "log", place, lines=lines, rounds=rounds))
    beside = [("COPY of 1 000", found["copy_1000"]), ("COPY of 100", found["copy_100"])]
    return [
        {"id": "B6", "what": f"{lines} lines, agent to PostgreSQL", "ours": found["rate"], "unit": "/s",
         "least": 100_000, "beside": beside},
        {"id": "B6", "what": "the agent's memory at most (RSS)", "ours": found["agent_kib"] / 1024, "unit": "MB", "most": 64},
    ]
