"""What the catalogues of faults have in common: how an input that gets through is reported."""


class EscapedError(AssertionError):
    """What should have been refused was not, or not with the message that it should have."""


def told(message: str, text: str) -> str:
    """Return `message`, which must hold `text`."""
    if text not in message:
        raise EscapedError(f"{text!r} is not in the message: {message[:500]}")
    return message
