"""Every limit of Latensgate: one number each, its unit in its name, its reason beside it."""

from __future__ import annotations

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB

# --- CBOR and COSE (RFC 8949, RFC 9052, AWS Nitro attestation specification) ---
CBOR_MAX_DEPTH: Final = 16
"""Levels. A Nitro document needs 3, an NSM answer 2, a frame 3; recursion stays shallow."""
ATTESTATION_DOCUMENT_MAX_BYTES: Final = 32 * KIB
"""Payload limit (16 KiB) plus headers and signature, doubled; 7,539 bytes is the largest seen."""
ATTESTATION_PAYLOAD_MAX_BYTES: Final = 16_384
"""AWS attestation process, section 3.2: payload of 1 to 16,384 bytes."""
ATTESTATION_FIELD_MAX_BYTES: Final = 1_024
"""public_key, user_data, nonce and each certificate: what the device gives (facts: measured)."""
ATTESTATION_PCR_MAX_COUNT: Final = 32
"""NSM: max_pcrs."""
ATTESTATION_BUNDLE_MAX_COUNT: Final = 8
"""Certificates in cabundle. Seen: 4. Bounds the work of path building."""
ATTESTATION_DOCUMENT_SKEW_S: Final = 60
"""Seconds that a document may lie after the evaluation time: clocks of verifiers run slow."""
NONCE_BYTES: Final = 32
"""Nonce of GET /api/attestation: 64 lower hex digits."""
ATTESTATION_CHAIN_CACHE_COUNT: Final = 64
"""Certificate chains that a verifier remembers as checked; a fleet has one per enclave and 3 h."""
RELEASE_LIST_MAX_BYTES: Final = 1 * MIB
"""About 1,500 accepted releases of 650 bytes."""

# --- strict JSON and JCS (RFC 8259, RFC 8785) ---
JSON_MAX_DEPTH: Final = 64
"""Levels. JSON Schemas of tools nest deepest; real ones stay below 20."""
JSON_MAX_VALUES: Final = 262_144
"""Values of one text. 15 MiB of small ones cost 5 s and 470 MiB; this many, 0.4 s and 40 MiB.
A long conversation with tools has some ten thousand."""
JSON_TEXT_MEMBERS_MAX_COUNT: Final = 64
"""Members whose text is kept: of the outermost object of a message; ours have at most nine."""
JSON_INTEGER_MAX_CHARS: Final = 64
"""Digits and sign of one integer. Conversion is quadratic; a 64-bit seed needs 20."""
JSON_MAX_SAFE_INTEGER: Final = 2**53 - 1
"""RFC 8785, 3.2.2.3: larger integers do not survive ECMAScript and are refused."""

# --- sealed protocol, version 1 (docs/spec/wire.md) ---
SEALED_BODY_MAX_BYTES: Final = 20 * MIB
"""HTTP body of a sealed route (DESIGN 9), base64 and JSON included."""
SEALED_REQUEST_MAX_BYTES: Final = 15 * MIB
"""Decoded prompt_ciphertext: 20 MiB of base64."""
CHUNK_MAX_BYTES: Final = 64 * KIB
"""Plaintext of one chunk. Chunked OHTTP demands at least 16,384; bounds what is held unopened."""
SEALED_REQUEST_CHUNKS_MAX_COUNT: Final = 4_096
"""Non-final chunks of a request. A full one has 240; pieces of one byte cost seconds to open."""
CHUNK_FRAMED_MAX_BYTES: Final = CHUNK_MAX_BYTES + 256
"""One event of a streamed answer: chunk, tag (16), length (4), response nonce (32), rounded up."""
SEALED_ANSWER_CHUNKS_MAX_COUNT: Final = 262_144
"""Content chunks of an answer. A stream has one for each token, and models write up to 128k."""
SEALED_ANSWER_MAX_BYTES: Final = SEALED_REQUEST_MAX_BYTES
"""Decoded response_ciphertext: the body limit holds both ways."""
ERROR_MESSAGE_MAX_CHARS: Final = 4_096
"""Messages and hints are ours, a sentence or two; a provider's text is cut to this."""
HOLD_REQUEST_MAX_BYTES: Final = SEALED_REQUEST_MAX_BYTES - 128 * KIB
"""A sealed request that can be held: settings travel beside it when it is decided."""
REQUEST_WINDOW_S: Final = 300
"""Seconds between issued_at and enclave time, either way; also how long request ids are kept."""
REPLAY_MAX_IDS: Final = 1_000_000
"""Request ids remembered at once: 1,600 a second over two windows, about 120 MB; then refuse."""
NAME_MAX_CHARS: Final = 256
"""Model names and operations: no real one is longer than 100."""

# --- receipts (docs/spec/receipts.md) ---
HOLD_MAX_S: Final = 86_400
"""A held request waits for an approver at most 24 hours (DESIGN 7a)."""
HOLD_MIN_S: Final = 60
"""Shortest time that a policy may leave an approver: below it nobody could read the question."""
HOLDS_SPENT_MAX_COUNT: Final = 200_000
"""Decided requests that one enclave remembers until they expire, so that none runs twice: 30 MB,
two a second for a day. Then decisions are refused; nothing is forgotten early."""
HOLD_STATE_MAX_BYTES: Final = 8 * KIB
"""What an enclave seals to itself of a held request: ids, digests, two secrets, counts."""
HOLD_DECISION_MAX_BYTES: Final = 2 * KIB
"""A signed decision as JSON: some 500 bytes."""
ANSWER_MAX_S: Final = 900
"""From the end of the keys to the end of the longest answer: 15 minutes. `policy.toml` may not
give the model more than `MODEL_TIMEOUT_MAX_MS`; the rest is for scanning and sealing."""
MODEL_TIMEOUT_MAX_MS: Final = 840_000
"""Largest `model_timeout_ms` of a `policy.toml`: 14 minutes; today's longest answers take two."""
RECEIPT_MAX_DELAY_S: Final = HOLD_MAX_S + ANSWER_MAX_S
"""How long after its manifest's not_after a receipt may be issued: a request opens until then, may
be held, and its answer may be long. One bound for all outcomes: the receipt key dies with the
enclave, so this says what is plausible and is not what keeps a receipt honest (ADR 0006)."""
RECEIPT_FIELDS_DROPPED_MAX_COUNT: Final = 256
"""Names of request fields; the largest request schema of OpenAI has about 40."""

# --- frames between parent and enclave ---
FRAME_MAX_BYTES: Final = 128 * KIB
"""One frame: a sealed chunk and its head fit twice; larger bodies go in several frames."""
CALL_BODY_MAX_BYTES: Final = 64 * MIB
"""All chunk frames of one direction of one call; above every body that a route admits."""
CALLS_MAX_OPEN: Final = 1_024
"""Calls open at once on one connection; above it the parent opens another or answers 503."""
CALL_ID_MAX: Final = 2**53 - 1
"""Call ids and ping tokens: never reused, and still exact where a log is read as JSON."""

# --- what the messages of docs/spec/frames.md may hold (frames end at FRAME_MAX_BYTES anyway) ---
RECEIPT_PUBLIC_MAX_BYTES: Final = 4 * KIB
"""JCS of a receipt's public part: about 900 bytes."""
RECEIPT_PRIVATE_SEALED_MAX_BYTES: Final = 32 * KIB
"""Private part sealed to the audit key: with a final chunk of 64 KiB it still fits one frame."""
ED25519_PUBLIC_KEY_BYTES: Final = 32
ED25519_SIGNATURE_BYTES: Final = 64
"""RFC 8032."""
TENANT_SETTINGS_MAX_BYTES: Final = 64 * KIB
"""Signed tenant settings; travel in a request's head, so half a frame at most."""
USAGE_TOTALS_MAX_BYTES: Final = 16 * MIB
"""Usage totals: at most 120 bytes for each tenant that this enclave served."""
ARN_MAX_CHARS: Final = 2_048
"""AWS service models: the longest ARN that any of them admits."""
KMS_KEY_POLICY_MAX_BYTES: Final = 32 * KIB
"""KMS quotas: a key policy document has at most 32 KB."""

# --- transparency log ---
MERKLE_TREE_MAX_LEAVES: Final = 2**63 - 1
"""C2SP tlog-checkpoint: sizes are signed 64-bit numbers in every other implementation."""
MERKLE_PROOF_MAX_HASHES: Final = 64
"""Hashes of one proof: a tree of 2^63 leaves has 63 levels, a consistency proof one hash more."""

# --- keys (DESIGN 3.4) ---
KEY_ROTATION_S: Final = 3_600
"""HPKE keys rotate at 60 minutes."""
MANIFEST_MAX_BYTES: Final = 8 * KIB
"""Canonical manifest. With keys of both suites it has about 2,700 bytes."""
MANIFEST_LIFETIME_S: Final = 4_500
"""manifest not_after: 75 minutes after not_before."""
SDK_RENEW_AFTER_S: Final = 3_000
"""SDKs fetch the next manifest at 50 minutes."""
SDK_STOP_AFTER_S: Final = 4_200
"""SDKs stop sealing at 70 minutes."""
NONCE_DOCUMENTS_PER_S: Final = 5
"""Freshness proofs of one enclave: its NSM serves one call at a time, and needs some for itself."""
IDEMPOTENCY_KEY_MAX_CHARS: Final = 255
"""Visible ASCII characters; what other HTTP interfaces with this header admit."""
IDEMPOTENCY_RECORD_S: Final = 86_400
"""How long the parent keeps what a key was used for."""

# --- times between parent and enclave ---
ENCLAVE_ACCEPT_MS: Final = 5_000
"""Seed: the enclave accepts within 5000 ms or the caller gets ERR_ENCLAVE_TIMEOUT."""
ACCEPT_WAIT_MS: Final = 500
"""Longest wait of an acceptance, or of the head of an answer, for more to send along: far below the
time within which it is due, and above that of a fast model."""

# --- HTTP/1.1 and AWS, spoken by the enclave itself ---
HTTP_HEAD_MAX_BYTES: Final = 16 * KIB
"""Status line and fields of one answer. AWS answers stay below 2 KiB."""
HTTP_FIELDS_MAX_COUNT: Final = 64
"""Fields of one answer. AWS sends about ten."""
HTTP_CHUNK_SIZE_MAX_DIGITS: Final = 8
"""Hex digits of one chunk size: 4 GiB, far above every body limit; more digits are an attack."""
AWS_ANSWER_MAX_BYTES: Final = 256 * KIB
"""KMS, STS and control-plane answers: the longest is a key policy (32 KiB), JSON-escaped."""
BEDROCK_ANSWER_MAX_BYTES: Final = 8 * MIB
"""One Converse answer: 128k output tokens are about 1 MiB of JSON."""
BEDROCK_STREAM_MAX_BYTES: Final = 64 * MIB
"""One ConverseStream body: about 300 bytes of framing around each token of such an answer."""
EVENT_MESSAGE_MAX_BYTES: Final = 1 * MIB
"""One message of an AWS event stream. AWS admits 24 MiB; one token's event is 300 bytes."""
EVENT_HEADERS_MAX_BYTES: Final = 4 * KIB
"""Headers of one message: Bedrock sends three, about 100 bytes."""
AWS_CREDENTIAL_MAX_CHARS: Final = 8 * KIB
"""Session tokens are about 1,000 characters; AWS names no limit, so with room to grow."""
KMS_CIPHERTEXT_MAX_BYTES: Final = 6_144
"""KMS: CiphertextBlob and CiphertextForRecipient have 1 to 6,144 bytes."""
KMS_CONTEXT_MAX_COUNT: Final = 8
"""Pairs of an encryption context; ours has three."""

# --- NSM device ---
NSM_REQUEST_MAX_BYTES: Final = 0x1000
"""Linux drivers/misc/nsm.c: a longer request gives EMSGSIZE."""
NSM_RESPONSE_MAX_BYTES: Final = 0x3000
"""Linux drivers/misc/nsm.c: a shorter buffer is filled and the rest lost without an error."""

# --- chat completions ---
CHAT_MESSAGES_MAX_COUNT: Final = 4_096
"""Messages of one request, and content parts of one message; agents send some hundreds."""
CHAT_TOOLS_MAX_COUNT: Final = 128
"""OpenAI's own limit on tools; also bounds the tool calls of one message."""
CHAT_STOP_MAX_COUNT: Final = 4
"""OpenAI's own limit on stop sequences."""
CHAT_STOP_MAX_CHARS: Final = 512
"""Of one stop sequence: those that are looked for here are compared with the end of every piece."""
RETRY_AFTER_MAX_MS: Final = 86_400_000
"""Longest wait that a sealed error may ask for: one day."""
CHAT_CHOICES_MAX_COUNT: Final = 8
"""Answers to one request (`n`): each is a model call of its own, paid and awaited by the caller."""
CHAT_LOGIT_BIASES_MAX_COUNT: Final = 300
"""Tokens of one `logit_bias`, as OpenAI limits it; each is a text for the scan."""
CHAT_ATTACHMENTS_MAX_COUNT: Final = 64
"""Images, documents and sounds of one request; providers take fewer, and each is copied once."""
METADATA_MAX_COUNT: Final = 16
METADATA_KEY_MAX_CHARS: Final = 64
METADATA_VALUE_MAX_CHARS: Final = 512
"""OpenAI's own limits on metadata; of a Responses request it comes back in the answer."""
EMBEDDINGS_INPUTS_MAX_COUNT: Final = 2_048
"""OpenAI's own limit on the texts of one embeddings request."""
STREAM_PIECE_MAX_CHARS: Final = 15_000
"""Characters of an event that is longer than one content chunk: 60 KB as UTF-8 in JSON at most."""
STREAM_FIXED_STEP_BYTES: Final = 1_024
"""Content records of a stream of fixed shape are as long, or a multiple of it: a record of one
token has some 400 bytes, so ten tokens at once still fit."""
STREAM_COALESCE_MAX_MS: Final = 1_000
"""Longest tick on which a stream of that shape leaves: what a reader still takes for a stream."""
MODEL_CALLS_AT_ONCE_MAX_COUNT: Final = 8
"""Model calls that one request has under way: embedding models that take one text at a time."""
EMBEDDING_DIMENSIONS_MAX_COUNT: Final = 4_096
"""Numbers of one vector: above those of every model that Bedrock offers (3,072)."""

# --- personal data (DESIGN 7a) ---
PII_TEXT_MAX_CHARS: Final = 1_048_576
"""Code points of one scanned text: above most context windows; 1 s when dense, 10 s at worst."""
PII_REQUEST_MAX_CHARS: Final = 4_194_304
"""Code points scanned for one request, all texts together: bounds the time of one request."""
PII_ANSWER_MAX_CHARS: Final = 2_097_152
"""Code points scanned for one answer, besides the request's: a long request leaves it no less."""
PII_TEXT_COST_CHARS: Final = 64
"""Code points that each text takes off that budget besides its own: an empty scan takes as long."""
PII_FINDINGS_MAX_COUNT: Final = 100_000
"""Findings of one request, and of one answer: more is not text that people write, and memory grows
with each."""
PII_EXPLAINED_MAX_COUNT: Final = 10_000
"""Findings that one dry run explains: each takes some 400 bytes of the answer, or more."""
PII_EVIDENCE_MAX_COUNT: Final = 8
"""Matches that are told of one finding, the best first: many patterns match one card number."""
PII_REGEX_MAX_BYTES: Final = 32 * MIB
"""RE2 memory of one compiled pattern or set, its automaton's cache included; 8 MiB is RE2's own."""
PII_NER_WORKERS_MAX_COUNT: Final = 64
"""Processes that look for names at once: more than an enclave has processors for."""
PII_NER_QUEUE_MAX_COUNT: Final = 64
"""Scans for names that wait for a worker; more are refused at once rather than time out late."""
PII_NER_DEADLINE_MS: Final = 30_000
"""One text's scan for names, its wait included: 1 MiB of it in pieces of 4 KB takes some 25 s."""
PII_NER_PIECE_MAX_CHARS: Final = 4_096
"""Code points that the model reads at once: bounds its memory, and pieces run side by side."""
PII_NER_PIECE_DEADLINE_MS: Final = 5_000
"""One piece takes 70 ms; a worker that needs longer hangs and is replaced."""
PII_NER_MEMORY_MAX_BYTES: Final = 350 * MIB
"""Resident in one worker: measured peak 305 MB with pieces eight times as long."""
PII_CACHE_MAX_BYTES: Final = 32 * MIB
"""Findings kept of earlier messages, over all tenants: about 100,000 messages."""

# --- policies and tenant settings (docs/spec/policy.md, docs/spec/settings.md) ---
POLICY_LIST_MAX_COUNT: Final = 256
"""Terms of a deny list, and of an allow list: each costs one search of each text."""
POLICY_TERM_MAX_CHARS: Final = 256
"""Of one term: a name, an address, a code word."""
POLICY_TERM_PLACES_MAX_COUNT: Final = 2_000_000
"""Of all deny terms in one text, found within words or not: a second or two of work. Names and
project names are found some hundred times in a long text."""
POLICY_RECOGNIZERS_MAX_COUNT: Final = 32
"""Custom recognizers of one policy; each costs one pass over each text."""
POLICY_PATTERN_MAX_CHARS: Final = 512
"""Of one custom pattern: longer than the longest of Presidio's own but the URL's."""
POLICY_PATTERN_MAX_INSTRUCTIONS: Final = 2_000
"""Of the program that RE2 makes of a pattern: RE2's time for one character is bounded by it."""
POLICY_CONTEXT_MAX_COUNT: Final = 16
"""Context words of one custom recognizer."""
SETTINGS_APPROVERS_MAX_COUNT: Final = 32
"""Approvers of one tenant."""
SETTINGS_CACHE_MAX_COUNT: Final = 1_024
"""Verified settings that one enclave remembers; the oldest goes first and is verified again."""
SETTINGS_CACHE_MAX_BYTES: Final = 8 * MIB
"""Of these documents together. Read, one of 64 KiB may take a MiB: without a bound on their bytes
tenants that change theirs often could fill the enclave's memory."""

# --- long work beside the event loop of the enclave ---
LONG_WORK_THREADS: Final = 4
"""Threads for what takes long: they share one interpreter, so more would only switch more."""
LONG_WORK_TENANT_THREADS: Final = 2
"""Of these, at most so many for one tenant: scans of its choice leave half to everyone else."""

# --- egress of the enclave ---
EGRESS_CONNECT_TIMEOUT_MS: Final = 10_000
"""Tunnel and TLS handshake together. Within AWS they take some 20 ms."""
EGRESS_IDLE_MAX_COUNT: Final = 64
"""Idle connections kept for each host: with fewer than there are calls at once, each second call
pays a TLS handshake, which costs more CPU than all else that it needs."""
EGRESS_READ_BYTES: Final = 64 * KIB
"""Largest piece that one read of a socket takes."""

# --- one connection of the parent, as the enclave serves it ---
SOCKET_READ_BYTES: Final = 256 * KIB
"""Largest piece that one read of the parent's socket takes: the default vsock buffer."""
CALL_UPLOAD_TIMEOUT_MS: Final = 30_000
"""From a call's request frame to the end of its body; 15 MiB over vsock take under a second."""
CONTROL_CALLS_MAX_OPEN: Final = 32
"""Calls other than inference at once, in places of their own: health and new credentials get
through however many requests run."""
ENCLAVE_HELD_BODIES_MAX_BYTES: Final = 256 * MIB
"""Request bodies held by all calls together: an enclave's memory is fixed."""
AWS_CONTROL_DEADLINE_MS: Final = 10_000
"""One call of KMS, STS or the Bedrock control plane. They take 20 to 90 ms."""

# --- how often the enclave asks AWS again (DESIGN 3.3, 7) ---
KMS_GATE_CHECK_S: Final = 300
"""Key policy, grants and Decrypt are asked again; a denial stops service at once."""
KMS_GATE_GRACE_S: Final = 900
"""How long service goes on while KMS cannot be reached: three checks."""
KMS_RECIPIENT_DOCUMENT_S: Final = 60
"""A document for `Recipient` is renewed after this, well inside the leaf's three hours."""
IDENTITY_CHECK_S: Final = 60
"""STS account and invocation logging are asked again."""
IDENTITY_MAX_AGE_S: Final = 120
"""Older results refuse: one failed check is survived, two are not."""
CLOCK_REFRESH_S: Final = 60
"""Enclave time is taken anew from the NSM; drift within it stays below a millisecond."""

# --- receipts in the enclave ---
RECEIPT_TENANTS_MAX_COUNT: Final = 60_000
"""Tenants whose place in the chain one enclave remembers, about 400 bytes each; their usage totals
(four values each) stay below JSON_MAX_VALUES."""

# --- the tenant's own KMS key ---
TENANT_DATA_KEY_CACHE_S: Final = 300
"""An opened data key is remembered so long: the time in which a changed key policy cuts us off."""
TENANT_DATA_KEY_CACHE_MAX_COUNT: Final = 10_000
"""Opened data keys remembered at once; the oldest goes first and is asked for again."""

# --- the enclave's listener ---
SESSIONS_MAX_OPEN: Final = 64
"""Connections of the parent at once; it keeps a few, each carries up to CALLS_MAX_OPEN calls."""
DRAIN_TIMEOUT_MS: Final = 30_000
"""Open calls may finish for so long after SIGTERM; then they are cut."""
SESSION_CLOSE_TIMEOUT_MS: Final = 1_000
"""What was sent on a connection that ends is flushed for so long; then it is cut."""

# --- upstreams (docs/upstreams.md) ---
UPSTREAMS_MAX_COUNT: Final = 16
"""Tables of `upstreams` in one deployment.toml; an operator has one or two providers."""
ROUTE_REGIONS_MAX_COUNT: Final = 8
"""Regions that one alias may fail over to; a geography of AWS has at most that many."""
UPSTREAM_ATTEMPTS_MAX_COUNT: Final = 4
"""Attempts of one call, all Regions together: more only add load to what is overloaded."""
UPSTREAM_BACKOFF_MIN_MS: Final = 250
"""First pause between two attempts in one Region, at most; half of it is random."""
UPSTREAM_BACKOFF_MAX_MS: Final = 8_000
"""Longest pause between attempts; OpenAI's own clients pause as long."""
UPSTREAM_RETRY_AFTER_MAX_MS: Final = 120_000
"""Longest `retry-after` that is believed: what an upstream says must not stop service for long."""
BREAKER_FAILURES_COUNT: Final = 5
"""Failures in a row after which an upstream is left alone."""
BREAKER_OPEN_MIN_MS: Final = 5_000
"""First pause of an upstream that is left alone; then one call tries it."""
BREAKER_OPEN_MAX_MS: Final = 60_000
"""Longest such pause: an upstream that has recovered is noticed within a minute."""
UPSTREAM_CREDENTIAL_MAX_CHARS: Final = 4_096
"""A bearer key of an upstream. Real ones have 20 to 200 characters, tokens of clouds 2,000."""
UPSTREAM_CREDENTIAL_SEALED_MAX_BYTES: Final = 16 * KIB
"""One such key sealed: padding and an X-Wing encapsulation besides it."""
SSE_EVENT_MAX_BYTES: Final = 1 * MIB
"""One event of an upstream's SSE stream; one token's event has some 300 bytes."""
ESTIMATED_TOKEN_BYTES: Final = 4
"""Bytes of one token where a stream was cut before its usage came: English has about four."""
