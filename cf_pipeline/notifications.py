"""Who is told when a run fails or is canceled, and what."""

import time
from abc import abstractmethod
from collections.abc import Iterable, Iterator

import dagster as dg
from pydantic import Field

from cf_pipeline.deployment import DEPLOYMENT, WEBHOOK
from cf_pipeline.locks import Log

PAUSE = 2.0  # seconds before the second try of what may have passed by then
NO_REASON = "marked as failed from outside"  # Dagster's: the event before it has the reason
MOST_CHARACTERS = 500  # of one cause; the rest is in the run's log


# Dagster's resources are generic in what they give, which is themselves.
class Notifier(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Tells people something. Another way is another subclass, as the resource `notifier`."""

    @abstractmethod
    def notify(self, text: str, log: Log) -> None:
        """Tell the text; what keeps it from being told is logged, not raised."""


class LogNotifier(Notifier):
    """Tells the log alone: whoever looks at the sensor's ticks sees it."""

    def notify(self, text: str, log: Log) -> None:
        """Log the text."""
        log(text)


class WebhookNotifier(Notifier):
    """Tells a webhook, by a JSON object whose `text` Slack, Mattermost and the like show."""

    url: str = Field(description="Address of the webhook; it is a secret, and told nobody.")
    timeout: float = Field(default=10.0, gt=0, description="Seconds to wait for an answer.")

    def notify(self, text: str, log: Log) -> None:
        """Log the text and send it; that it cannot be sent is logged, without the address."""
        log(text)
        fault, may_pass = self._send(text)
        if may_pass:
            time.sleep(PAUSE)
            fault, _ = self._send(text)
        if fault:
            log(f"The webhook in {WEBHOOK} {fault}: nobody was told.")

    def _send(self, text: str) -> tuple[str | None, bool]:
        """Return what went wrong, None for nothing, and whether that may pass."""
        import requests

        passing = (requests.Timeout, requests.ConnectionError)
        try:
            # Where it redirects to, nobody may have meant to send this.
            answer = requests.post(
                self.url, json={"text": text}, timeout=self.timeout, allow_redirects=False
            )
        except Exception as error:  # urllib3 has errors of its own; messages may quote the address
            return f"cannot be reached: {type(error).__name__}", isinstance(error, passing)
        if 200 <= answer.status_code < 300:
            return None, False
        return f"answered {answer.status_code}", answer.status_code >= 500


# An EnvVar is shown by its name in the UI, not by what it holds.
notifier = WebhookNotifier(url=dg.EnvVar(WEBHOOK)) if DEPLOYMENT.webhook else LogNotifier()


@dg.run_failure_sensor(
    minimum_interval_seconds=30,
    default_status=DEPLOYMENT.sensor_status,
    description="Tells of each failed run and why: in its own log, and at the address in "
    "CF_PIPELINE_WEBHOOK.",
)
def failed_runs(context: dg.RunFailureSensorContext, notifier: dg.ResourceParam[Notifier]) -> None:
    """Tells of each failed run, by the notifier: which job and run, where it failed and why."""
    notifier.notify(describe(context), context.log.warning)


@dg.run_status_sensor(
    run_status=dg.DagsterRunStatus.CANCELED,
    minimum_interval_seconds=30,
    default_status=DEPLOYMENT.sensor_status,
    description="Tells of each canceled run and why, as failed_runs does: it may have taken too "
    "long, and so have been ended.",
)
def canceled_runs(context: dg.RunStatusSensorContext, notifier: dg.ResourceParam[Notifier]) -> None:
    """Tells of each canceled run, by the notifier: which job and run, and why."""
    cancellations = context.instance.all_logs(
        context.dagster_run.run_id, of_type=dg.DagsterEventType.RUN_CANCELING
    )
    said = [entry.dagster_event.message for entry in cancellations if entry.dagster_event]
    causes = [_shortened(cause) for cause in said if cause]
    notifier.notify(_told(context.dagster_run, "was canceled.", causes), context.log.warning)


def describe(context: dg.RunFailureSensorContext) -> str:
    """Return what a person wants to know of a failed run before they look at it."""
    causes = [*_failed_checks(context), *_failed_steps(context)]
    if not causes:
        causes = [_shortened(_from_outside(context) or "it does not say why")]
    again = context.dagster_run.tags.get("dagster/will_retry") == "true"
    ended = "failed. It is launched again." if again else "failed."
    return _told(context.dagster_run, ended, causes)


def _told(run: dg.DagsterRun, ended: str, causes: Iterable[str]) -> str:
    # Runs of single assets, and those of the automation conditions, are of no job with a name.
    assets = sorted(key.to_user_string() for key in run.asset_selection or ())
    what = ", ".join(assets) if run.job_name.startswith("__") else run.job_name
    first = _shortened(f"Run {run.run_id} of {what} {ended}")
    return "\n".join([first, *(f"- {cause}" for cause in causes)])


def _failed_checks(context: dg.RunFailureSensorContext) -> Iterator[str]:
    for record in context.instance.get_records_for_run(
        context.dagster_run.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION
    ).records:
        check = record.event_log_entry.asset_check_evaluation
        if check and not check.passed and check.blocking:
            said = {key: value.value for key, value in check.metadata.items()}
            shown = [f"{k} {v}" for k, v in said.items() if isinstance(v, str | int | float)]
            why = f": {check.description}" if check.description else ""
            yield _shortened(
                f"check {check.check_name} of {check.asset_key.to_user_string()}{why}"
                f" ({', '.join(shown)})"
            )


def _failed_steps(context: dg.RunFailureSensorContext) -> Iterator[str]:
    for event in context.get_step_failure_events():
        error = event.step_failure_data.error
        while error and error.cause:
            error = error.cause
        yield _shortened(f"step {event.step_key}: {error.message if error else event.message}")


def _from_outside(context: dg.RunFailureSensorContext) -> str | None:
    """What is said of a run that failed in none of its steps, as one whose process is gone."""
    said = context.failure_event.message
    if said and NO_REASON not in said:
        return said
    engine = context.instance.all_logs(
        context.dagster_run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT
    )
    return next((entry.message for entry in reversed(engine) if entry.message), said)


def _shortened(cause: str) -> str:
    line = " ".join(cause.split())
    return line if len(line) <= MOST_CHARACTERS else f"{line[:MOST_CHARACTERS]} …"
