"""One mail over SMTP, with the standard library, in a thread whose socket is cut when it takes too long."""

import asyncio
import contextlib
import smtplib
import ssl
from concurrent.futures import ThreadPoolExecutor
from email.message import EmailMessage
from typing import Final

from stoker.types.errors import NotReachable
from stoker.types.notifiers import Email

TIMEOUT_S: Final = 10.0  # of one step; the whole may take three times as long


class Mail:
    """Sends one mail, once."""

    def __init__(self, email: Email, password: str, message: EmailMessage) -> None:
        self._email = email
        self._password = password
        self._message = message
        self._server: smtplib.SMTP | None = None

    async def send(self, threads: ThreadPoolExecutor) -> None:
        """Send it. Raises NotReachable, whose words never hold the password."""
        try:
            async with asyncio.timeout(3 * TIMEOUT_S):
                await asyncio.get_running_loop().run_in_executor(threads, self._send)
        except TimeoutError:
            self._cut()
            raise NotReachable(f"the mail server took longer than {3 * TIMEOUT_S:g} s") from None
        except smtplib.SMTPResponseException as refused:
            words = refused.smtp_error
            said = words.decode("utf-8", "replace") if isinstance(words, bytes) else words
            raise NotReachable(f"the mail server refused: {refused.smtp_code} {said[:200]}") from None
        except (OSError, smtplib.SMTPException) as failed:
            raise NotReachable(f"the mail server failed: {type(failed).__name__}") from None

    def _send(self) -> None:
        email, context = self._email, ssl.create_default_context()
        if email.security == "tls":
            self._server = smtplib.SMTP_SSL(email.host, email.port, timeout=TIMEOUT_S, context=context)
        else:
            self._server = smtplib.SMTP(email.host, email.port, timeout=TIMEOUT_S)
        try:
            if email.security == "starttls":
                self._server.starttls(context=context)
            if email.user:
                self._server.login(email.user, self._password)
            self._server.send_message(self._message)
        finally:
            with contextlib.suppress(smtplib.SMTPException, OSError):
                self._server.quit()

    def _cut(self) -> None:
        server = self._server
        if server is not None and server.sock is not None:
            with contextlib.suppress(OSError):
                server.sock.shutdown(2)
