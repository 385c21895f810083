"""botocore signs the same request and must say the same."""

from __future__ import annotations

from datetime import UTC, datetime
from unittest import mock
from urllib.parse import quote

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotoCredentials
from hypothesis import given, settings
from hypothesis import strategies as st

from latensgate_enclave.aws.sigv4 import Credentials, SigningScope, sign
from latensgate_enclave.http1 import HttpRequest

VISIBLE = [chr(code) for code in range(0x21, 0x7F)]
SECRETS = st.text(VISIBLE, min_size=1, max_size=60)
VALUES = st.lists(st.text(VISIBLE, min_size=1, max_size=8), min_size=1, max_size=4).flatmap(
    lambda words: st.sampled_from([" ", "  ", "\t"]).map(lambda space: space.join(words))
)
# Not signed by botocore: fields that proxies change. Ours sends none of them.
NAMES = st.from_regex(r"x-[a-zA-Z0-9-]{1,12}", fullmatch=True).filter(
    lambda name: not name.lower().startswith(("x-amz", "x-amzn"))
)
SEGMENTS = (
    st.text(min_size=1, max_size=12)
    .map(lambda text: quote(text.encode("utf-8", "replace"), safe=""))
    .filter(lambda segment: segment not in {".", ".."})
)


def botocore_authorization(
    request: HttpRequest, credentials: Credentials, scope: SigningScope, at_s: int
) -> str:
    theirs = AWSRequest(
        request.method,
        f"https://{request.host}{request.path}",
        data=request.body,
        headers=dict(request.headers),
    )
    boto = BotoCredentials(
        credentials.access_key_id, credentials.secret_access_key, credentials.session_token
    )
    now = datetime.fromtimestamp(at_s, UTC)
    with mock.patch("botocore.auth.get_current_datetime", return_value=now):
        SigV4Auth(boto, scope.service, scope.region).add_auth(theirs)
    return str(theirs.headers["Authorization"])


@settings(max_examples=150, deadline=None)
@given(
    method=st.sampled_from(["GET", "POST"]),
    segments=st.lists(SEGMENTS, max_size=4),
    headers=st.dictionaries(NAMES.map(str.lower), VALUES, max_size=4),
    body=st.binary(max_size=50),
    token=st.none() | SECRETS,
    secret=SECRETS,
    at_s=st.integers(0, 4_000_000_000),
    scope=st.builds(
        SigningScope,
        st.sampled_from(["us-east-1", "eu-central-1"]),
        st.sampled_from(["kms", "bedrock", "sts"]),
    ),
)
def test_same_authorization_as_botocore(  # noqa: PLR0913 - one argument per strategy
    *,
    method: str,
    segments: list[str],
    headers: dict[str, str],
    body: bytes,
    token: str | None,
    secret: str,
    at_s: int,
    scope: SigningScope,
) -> None:
    credentials = Credentials("AKIDEXAMPLE00000", secret, token)
    request = HttpRequest(
        method,
        f"{scope.service}.{scope.region}.amazonaws.com",
        "/" + "/".join(segments),
        tuple(headers.items()),
        body,
    )
    ours = dict(sign(request, credentials, scope, at_s=at_s).headers)["authorization"]
    assert ours == botocore_authorization(request, credentials, scope, at_s)
