"""Gives each question of Schemathesis the next of several tokens: one alone would soon be told to wait."""

import itertools
import os

import schemathesis

TOKENS = itertools.cycle(os.environ["CHIFFON_TEST_TOKENS"].split())


@schemathesis.auth(refresh_interval=None)
class NextToken:
    def get(self, case, context):
        return next(TOKENS)

    def set(self, case, data, context):
        case.headers = {**(case.headers or {}), "Authorization": f"Bearer {data}"}
