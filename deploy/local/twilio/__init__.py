"""A Twilio simulator: the REST API of recordings, their media, and signed callbacks, on loopback."""

from deploy.local.injections import Injection

from .accounts import Account, SimCall
from .dispatcher import DelayedCallback, LostCallback, RepeatedCallback
from .errors import ApiError
from .exchanges import CallbackAnswer
from .faults import ErrorPage, ErrorStatus, Fault, Hook, NotReady, Redirect, throttled
from .journal import Event, Served
from .media_faults import (
    AnswerLost,
    Cut,
    Deliver,
    FlipBit,
    Gzip,
    Headers,
    OtherAudio,
    PlaceholderSizes,
    Stall,
    Trickle,
)
from .messages import Body, Request, Response
from .recordings import SimRecording, StatusCallback
from .simulator import Simulator
from .targets import Match

__all__ = [
    "Account",
    "AnswerLost",
    "ApiError",
    "Body",
    "CallbackAnswer",
    "Cut",
    "DelayedCallback",
    "Deliver",
    "ErrorPage",
    "ErrorStatus",
    "Event",
    "Fault",
    "FlipBit",
    "Gzip",
    "Headers",
    "Hook",
    "Injection",
    "LostCallback",
    "Match",
    "NotReady",
    "OtherAudio",
    "PlaceholderSizes",
    "Redirect",
    "RepeatedCallback",
    "Request",
    "Response",
    "Served",
    "SimCall",
    "SimRecording",
    "Simulator",
    "Stall",
    "StatusCallback",
    "Trickle",
    "throttled",
]
