"""A proxy in front of an S3 server that injects faults and writes down what it carries, on loopback."""

from deploy.local.injections import Injection

from .answer_faults import Cut, FlipBit, Headers, WithoutChecksums, WrongChecksum
from .faults import AnswerLost, Delay, ErrorStatus, Fault, Hook, IgnoredHeaders, Reset, Stall
from .messages import DropError, S3Request, S3Response
from .proxy import S3Proxy
from .timeline import Event

__all__ = [
    "AnswerLost",
    "Cut",
    "Delay",
    "DropError",
    "ErrorStatus",
    "Event",
    "Fault",
    "FlipBit",
    "Headers",
    "Hook",
    "IgnoredHeaders",
    "Injection",
    "Reset",
    "S3Proxy",
    "S3Request",
    "S3Response",
    "Stall",
    "WithoutChecksums",
    "WrongChecksum",
]
