"""What schemathesis has to know about this API, and which of its findings are expected."""

import hashlib
import json
import os
import re

import schemathesis

# A description says which requests are well-formed. It cannot say which homes, devices and profiles there are, nor
# relations between two values: a well-formed request may be refused with these words, and with no others.
REFUSALS_OF_MEANING = re.compile(
    "|".join(
        [
            r"Expected property is missing: device\.(msisdn|ipv4Address|ipv4Address or device\.ipv6Address)",
            r"Unable to identify device from specified parameters: device",
            r"Multiple inconsistent parameters specified: device",
            r"QosProfile Id does not exist",
            r"Ranges not allowed: (device|applicationServer)Ports",
            r"Idempotency-Key was used for another request",
            # The description's pattern of a URL is looser than what a request can be sent to.
            r"Schema validation failed at (webhook\.)?notificationUrl: must .+",
            r"Schema validation failed at .*ipv6Addr(ess)?: must not be an IPv4-mapped IPv6 address",
        ]
    )
)

# What the operator has provisioned (scripts/api-test.sh).
HOME = json.loads(os.environ["API_TEST_HOME"])
PROFILES = ["QOS_E", "QOS_S", "QOS_M", "QOS_L"]
# The key of the description's example.
EXAMPLE_KEY = "6f1d2b0e-3c55-4f0e-9a80-0c9f4ad7f1f7"
DIFFERENCES = []
SEEN_FILE = os.environ.get("API_TEST_SEEN")
if SEEN_FILE:
    with open(os.environ["API_TEST_DIFFERENCES"]) as file:
        DIFFERENCES = json.load(file)["differences"]


def answer_of(response):
    try:
        answer = response.json()
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


@schemathesis.hook
def before_call(context, case, kwargs):
    """Every other well-formed order is one for a device that is there, so that orders also succeed."""
    if case.operation.label != "POST /sessions" or case.meta is None or not case.meta.generation.mode.is_positive:
        return
    body = case.body
    if not isinstance(body, dict) or not isinstance(body.get("device"), dict):
        return
    chance = hashlib.sha256(json.dumps(body, sort_keys=True, default=str).encode()).digest()
    if case.headers and case.headers.get("Idempotency-Key") == EXAMPLE_KEY:
        # The example goes with many orders, and would be refused with all but the first.
        case.headers["Idempotency-Key"] = chance.hex()
    if chance[0] % 2:
        return
    body["qosProfile"] = PROFILES[chance[1] % len(PROFILES)]
    private = f"192.168.1.{chance[2] % 250 + 2}"
    known = {
        "phoneNumber": HOME["phoneNumber"],
        "networkAccessIdentifier": HOME["networkAccessIdentifier"],
        "ipv6Address": f"{HOME['ipv6Prefix']}{chance[3]:x}:{chance[4]:x}",
        "ipv4Address": {"publicAddress": HOME["publicAddress"], "privateAddress": private},
    }
    known["ipv6Addr"], known["ipv4Addr"] = known["ipv6Address"], known["ipv4Address"]
    for key in body["device"]:
        if key in known:
            body["device"][key] = known[key]


@schemathesis.hook
def filter_failure(context, failure, case, response):
    """Whether a finding is one."""
    kind, answer = type(failure).__name__, answer_of(response)
    is_order = case.operation.label == "POST /sessions"
    message = str(answer.get("message", ""))
    if kind == "RejectedPositiveData" and response.status_code == 400:
        if is_order and REFUSALS_OF_MEANING.fullmatch(message):
            return False
    if is_order and kind == "ServerError" and response.status_code == 501 and answer.get("code") == "NOT_IMPLEMENTED":
        # An answer of the contract: what is well-formed and not served.
        return False
    for difference in DIFFERENCES:
        for expected in difference.get("found", []):
            if (
                expected["kind"] == kind
                and re.fullmatch(expected["operation"], case.operation.label)
                and response.status_code in expected.get("status", [response.status_code])
                and re.search(expected.get("message", ""), message)
                and re.search(expected.get("words", ""), f"{failure.message}", re.DOTALL)
            ):
                with open(SEEN_FILE, "a") as file:
                    file.write(json.dumps(expected, sort_keys=True) + "\n")
                return False
    return True
