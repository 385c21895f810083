"""Limits that only the parent has: one number each, its unit in its name, its reason beside it.

What parent and others share stands in ``latensgate_shared.limits``.
"""

from __future__ import annotations

from typing import Final

from latensgate_shared.limits import ANSWER_MAX_S, KIB, MIB

# --- who calls, and how often ---
AUTH_CACHE_S: Final = 2.0
"""How long a found API key is remembered: another parent may revoke it."""
AUTH_CACHE_MAX_COUNT: Final = 10_000
"""Keys remembered at once, about 1 KiB each; the oldest goes first and is asked for again."""
RATE_WINDOW_S: Final = 60
"""Limits are told by the minute."""
RATE_BUCKETS_MAX_COUNT: Final = 100_000
"""Tenants, and addresses, counted at once: at most 10 KiB each when busy; the longest idle goes."""

# --- requests under way ---
INFERENCE_MAX_OPEN: Final = 1_024
"""Sealed requests at once; what CALLS_MAX_OPEN admits on one connection to an enclave."""
HELD_BODIES_MAX_BYTES: Final = 512 * MIB
"""Bodies of sealed requests held at once: 25 of the largest, or 1,024 of 512 KiB."""
INFERENCE_TENANT_MAX_OPEN: Final = 192
"""Of one tenant: three quarters of what one enclave works on, so that no tenant fills one alone. At
60 requests a minute it takes answers of over three minutes to come here."""
HELD_BODIES_TENANT_MAX_BYTES: Final = 128 * MIB
"""Of one tenant: half of what one enclave holds; six of the largest."""
BODY_READ_TIMEOUT_S: Final = 30.0
"""From a request's head to the end of its body; as long as the enclave waits for it."""
SEALED_BODY_ESCAPES_MAX_COUNT: Final = 4_096
"""Escapes by number in the JSON of a sealed request: base64 needs none, names have 256 characters.
Millions would take seconds to read."""
LONG_WORK_BYTES: Final = 1 * MIB
"""Above it a body is read and hashed in a thread: 20 MiB take some 130 ms, 1 MiB about 6 ms, and
going to a thread 0.1 ms."""
STREAM_STORED_MAX_BYTES: Final = 4 * MIB
"""Of one keyed streamed answer, kept to be replayed: some 8,000 tokens, about 500 bytes each."""
STREAM_PING_S: Final = 15.0
"""Between comments on a silent stream: proxies cut connections that are silent for 30 to 60 s."""
STREAM_SEND_TIMEOUT_S: Final = 60.0
"""A caller that takes nothing of a stream for so long is gone."""

READ_MIN_BYTES: Final = 32 * KIB
"""Of an answer that waits, a client takes so much in STREAM_SEND_TIMEOUT_S, or it is cut off."""

# --- writes that the store did not confirm ---
BACKLOG_MAX_COUNT: Final = 1_024
"""While so many wait no new request begins; those under way may add INFERENCE_MAX_OPEN more."""
BACKLOG_FAILING_S: Final = 5.0
"""After so long without a confirmed write no new request begins, until one is: longer than a lock
or a slow disk lasts."""
BACKLOG_ANSWER_MAX_BYTES: Final = 256 * KIB
"""Of an answer that waits there, so that all stay bounded; a longer one becomes unknown."""
BACKLOG_RETRY_MIN_S: Final = 0.2
"""First pause before a write is repeated; doubled each time. A full disk does not heal faster."""
BACKLOG_RETRY_MAX_S: Final = 5.0
"""Longest pause."""
IDEMPOTENCY_EXPIRE_S: Final = 600.0
"""Between removals of expired records; each holds at most one sealed answer."""

# --- one connection to an enclave ---
LINK_CONNECT_TIMEOUT_MS: Final = 3_000
"""The kernel itself gives a vsock connection up after 2,000 ms."""
LINK_WRITE_BUFFER_BYTES: Final = 256 * KIB
"""Above it writers wait: the default vsock buffer; more would only lie here instead of there."""
LINK_WAITING_CALLS_MAX_COUNT: Final = 256
"""Calls that wait while the enclave does not read; as many as it works on at once."""
LINK_STREAM_QUEUE_MAX_BYTES: Final = 512 * KIB
"""Of a streamed answer that its reader does not fetch: some 2,000 tokens, minutes of them."""
LINK_ANSWERS_MAX_BYTES: Final = 256 * MIB
"""Unary answers that are coming in on one connection, together: 17 of the largest."""
LINK_PING_INTERVAL_MS: Final = 2_000
"""An enclave that hangs is seen after this and the next; one that is killed, at once."""
LINK_PING_TIMEOUT_MS: Final = 10_000
"""Without a byte from the enclave for so long after a ping, it is lost. Twice what it has to accept
a call, so that a call says ERR_ENCLAVE_TIMEOUT before the connection ends for all."""
LINK_CALL_MAX_MS: Final = 1_000 * (ANSWER_MAX_S + 60)
"""From dispatch to the end of any answer: what the enclave promises, and a minute. Then the call is
lost and cancelled; if it does not end within another minute, the enclave is out of order."""
LINK_RECONNECT_MIN_MS: Final = 100
"""First pause before a new attempt to connect; doubled each time, half of it random."""
LINK_RECONNECT_MAX_MS: Final = 5_000
"""Longest pause: an enclave boots in some seconds."""

# --- looking after an enclave ---
HEALTH_POLL_MS: Final = 2_000
"""Between questions for health: what a load balancer asks, and cheap."""
HEALTH_TIMEOUT_MS: Final = 5_000
"""As long as an enclave may take to accept a call."""
HEALTH_STALE_MS: Final = 15_000
"""An enclave whose last answer is older takes no new requests in turn."""
ATTESTATION_POLL_MS: Final = 15_000
"""Between questions for the newest manifest; an enclave does not say by itself when keys rotate."""
ATTESTATION_TIMEOUT_MS: Final = 15_000
"""Its NSM serves one call at a time, some 5 a second are freshness proofs."""
KEY_KEPT_AFTER_S: Final = 300
"""Key ids are routed so long after their manifest's end: the enclave judges by its own time."""
CREDENTIALS_POLL_MS: Final = 30_000
"""Between looks for newer credentials."""
CREDENTIALS_ASSUMED_S: Final = 3_600
"""Life of credentials that do not say when they end: the default of an assumed role."""
CREDENTIALS_FILE_MAX_BYTES: Final = 64 * KIB
"""JSON with three texts of at most 8 KiB each."""
CONTROL_TIMEOUT_MS: Final = 60_000
"""Credentials and KMS: the enclave asks AWS up to six times, with 10 s for each."""
CONTROL_RETRY_MIN_MS: Final = 1_000
"""First pause after refused credentials or a closed KMS gate; doubled each time, half random."""
CONTROL_RETRY_MAX_MS: Final = 30_000
"""Longest pause: how long service stays closed at most after KMS has been put right."""
USAGE_POLL_MS: Final = 3_600_000
"""Hourly (DESIGN 8): a crash of the enclave forfeits what was not fetched."""

# --- egress ---
EGRESS_TUNNELS_MAX_OPEN: Final = 1_024
"""Tunnels at once, two descriptors each: every call an enclave works on (256), for four of them."""
EGRESS_LINE_MAX_BYTES: Final = 300
"""CONNECT, a host name of at most 253 characters, and its port."""
EGRESS_LINE_TIMEOUT_MS: Final = 5_000
"""From a tunnel's opening to the end of its line."""
EGRESS_DIAL_TIMEOUT_MS: Final = 8_000
"""DNS and TCP together; below the 10,000 ms that the enclave waits for tunnel and TLS."""
EGRESS_IDLE_TIMEOUT_MS: Final = 1_000 * ANSWER_MAX_S
"""Without a byte either way. A model may think as long as `model_timeout_ms` before it answers."""
EGRESS_BUFFER_BYTES: Final = 128 * KIB
"""Held for a slow reader, in each direction, before its writer is held back."""
EGRESS_ADDRESSES_MAX_COUNT: Final = 4
"""Addresses of one host that are tried, one after the other."""

# --- routes other than inference (docs/spec/http.md) ---
SURFACE_BODY_MAX_BYTES: Final = 64 * KIB
"""HTTP body of a route other than inference (DESIGN 9); the longest real one has 500 bytes."""
QUERY_MAX_BYTES: Final = 4 * KIB
"""Query of any route; the longest real one has 400 bytes. Thousands of names take milliseconds."""
PUBLIC_REQUESTS_PER_MINUTE: Final = 300
"""Of one address over all public routes: an office behind one address attests and checks health."""
AUDIT_PAGE_MAX: Final = 1_000_000
"""Number of a page; with full pages ten times what one table is expected to hold."""
AUDIT_LIMIT_DEFAULT: Final = 25
"""Entries of a page; the seed's own figure."""
AUDIT_LIMIT_MAX: Final = 100
"""Entries of a page; about 150 KiB of JSON."""
DAYS_LIMIT_DEFAULT: Final = 31
"""Days of a page: a month."""
DAYS_LIMIT_MAX: Final = 400
"""Days of a page: a year and more, about 50 KiB of JSON."""
KEY_NAME_MAX_CHARS: Final = 100
"""Name of an API key or a tenant: for people."""
KEYS_ACTIVE_MAX_COUNT: Final = 100
"""Active API keys of a tenant: more are a leak of keys, not a use of them."""
KEYS_MAX_COUNT: Final = 10_000
"""API keys of a tenant with the revoked and expired ones, which stay listed: 3 MiB of JSON."""
KEY_LIFE_MAX_S: Final = 3_650 * 86_400
"""Longest `expiry`: ten years; who wants none says null."""
ROTATION_GRACE_MAX_S: Final = 30 * 86_400
"""Longest life of a key beside the one that replaces it: a deployment a month."""
ATTESTATION_CACHE_S: Final = 5.0
"""An attestation without nonce is answered from memory so long: it is public and changes hourly."""
ATTESTATION_PUBLIC_CACHE_S: Final = 60
"""How long others may cache it (http.md section 1)."""
VERDICT_CACHE_MAX_COUNT: Final = 256
"""Judged documents remembered, about 20 KiB each; a judgement costs some milliseconds."""
USAGE_CACHE_S: Final = 30.0
"""Stored usage totals are read again after this; enclaves are asked hourly."""

# --- the process ---
DRAIN_MAX_S: Final = 130
"""Open requests may finish for so long after SIGTERM: the longest model call, and its sealing."""
DRAIN_STORE_MAX_S: Final = 10.0
"""After that, for what is still to be written and for the enclaves' last usage totals."""
HURRY_STORE_MAX_S: Final = 1.0
"""In place of both after a second SIGTERM: what is to be written, if the disk takes it at once."""
HTTP_HEAD_MAX_BYTES: Final = 64 * KIB
"""Request line and fields; browsers and proxies stay below 16 KiB."""
HTTP_HELD_WRITE_MAX_BYTES: Final = 64 * KIB
"""What of an answer waits for the end of the loop's turn: uvicorn's own high-water mark, so that a
client that does not read is noticed as ever."""
HTTP_FIELDS_MAX_COUNT: Final = 100
"""Fields of a head; browsers and proxies send some 30. Each is looked through about ten times."""
HTTP_HEAD_TIMEOUT_S: Final = 10.0
"""From a connection, or a request's first byte, to the end of its head."""
HTTP_KEEP_ALIVE_S: Final = 75
"""An idle connection is kept so long: longer than load balancers keep theirs (60 s)."""
MAX_CONNECTIONS: Final = 4_096
"""Connections of clients at once; more get 503 at once."""

# --- tenant settings ---
SETTINGS_REMEMBERED_S: Final = 2.0
"""How long a parent goes without asking for a tenant's settings again; as for API keys."""
SETTINGS_TENANTS_MAX_COUNT: Final = 4_096
"""Tenants whose settings are remembered at once, 64 KiB each at most: 256 MiB."""
SETTINGS_VERSIONS_MAX_COUNT: Final = 64
"""Versions of a tenant's settings that are kept, 64 KiB each at most: 4 MiB a tenant."""

# --- the store ---
STORE_WRITES_QUEUED_MAX_COUNT: Final = 8_192
"""Writes that wait for the disk: two for each of INFERENCE_MAX_OPEN and much to spare."""
STORE_WRITES_PER_TRANSACTION_MAX_COUNT: Final = 512
"""Writes of one transaction: about 15 ms of work, which the first one waits for too."""
STORE_GATHER_PAUSE_MS: Final = 1.0
"""Between two looks whether enough writes wait for a common commit: less than a flush takes."""
STORE_GATHER_MAX_MS: Final = 5.0
"""No look begins later, so that a write waits no longer for others: an answer takes a hundred times
as long. A look that finds nothing new is the last one, too."""
STORE_GATHERED_COUNT: Final = 16
"""Enough writes: the commit's part in each is then below what the write itself costs."""
STORE_BUSY_TIMEOUT_MS: Final = 2_000
"""How long SQLite waits for a lock: another process, for example the operator's command, writes."""
STORE_LOCK_PAUSE_MS: Final = 10.0
"""Between two tries to turn a new file to WAL, which SQLite itself does not wait for."""
STORE_MIGRATION_TIMEOUT_MS: Final = 30_000
"""The same at the start, where another process may just be changing the tables."""
STORE_READERS_MAX_COUNT: Final = 4
"""Threads and connections that read; reads are pages of receipts and keys not in the cache."""
STORE_EXPIRED_PER_WRITE_MAX_COUNT: Final = 256
"""Expired records removed by one write, so that receipts never wait long behind the cleaning."""

# --- held requests ---
HOLD_VIEW_TIMEOUT_MS: Final = 40_000
"""An enclave scans a request again before it shows it: as long as the longest scan for names."""
HOLDS_LISTED_MAX_COUNT: Final = 100
"""Held requests in one list: more than a person reads."""
HOLD_ANSWER_KEPT_S: Final = 86_400
"""After its end a held request is kept for a day: its caller may ask late."""
HOLD_RETRY_AFTER_S: Final = 2
"""What whoever polls is asked to wait: a person decides, so no second matters."""
