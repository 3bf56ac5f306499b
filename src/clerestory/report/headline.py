"""The answer in plain words: may it ship, since when is it live, by whom, why, and what to run next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from markupsafe import Markup

from clerestory.core.digest import short
from clerestory.core.evidence import Evidence, Measurement
from clerestory.core.release import Decision, Policy, Reason, Release, Rule
from clerestory.core.rows import TaskName
from clerestory.core.sample import TEST_STYLE
from clerestory.report import format
from clerestory.report.approvals import account_notice, declined_words, next_step, standing
from clerestory.report.chance import at_chance
from clerestory.report.metric_figures import candidates, chance, chart_row, k_of, recalls, slug, splits_of
from clerestory.report.model import BenchmarkTrust, ReportData
from clerestory.report.svg import charts
from clerestory.report.svg.charts import ChartGroup, ChartRow
from clerestory.report.trust import benchmark, label_of, trust_view
from clerestory.report.view import DecisionView, Highlight, LicenceAnswer, ReasonView
from clerestory.stats.metrics import metric

STATES = {"ship": "yes", "refuse": "no", "cannot_decide": "unsure"}
OUTCOME_STATES = {"pass": "yes", "fail": "no", "cannot_decide": "unsure"}
_OUTCOME_ORDER = ("fail", "cannot_decide", "pass")
MAX_HIGHLIGHTS = 3
BLOCKING_LICENCES = "blocking_licences"  # the metric of a rule on licences


def decision(data: ReportData) -> DecisionView:
    """The headline."""
    release = data.release
    if release is None:
        return DecisionView(
            "unsure",
            "Cannot decide",
            f"The model {data.name} was not submitted to the gate yet.",
            ("So there is no decision, and it is not live in this store.",),
            f"clerestory release gate {data.name}",
            "To get a decision, run",
        )
    verdict = release.decision.verdict
    words = format.verdict(verdict)
    titles = {
        ("ship", True): f"{release.ref} may ship, and it is live.",
        ("ship", False): f"{release.ref} may ship. It is not live.",
        ("refuse", False): f"{release.ref} must not ship.",
        ("cannot_decide", False): f"It cannot be decided yet whether {release.ref} may ship.",
    }
    contradiction = f"{release.ref} is live although its decision is “{words.title.lower()}”."
    lines = [_live(data, release), _submitted(release), _rules(release), _approval(data)]
    command, command_for = release.decision.command, "The cheapest command that could change the answer"
    if verdict == "ship" and not data.is_live and data.approval and (step := next_step(data.approval)):
        command, command_for = step, "To go on with its approval, run"
    elif verdict == "ship" and not data.is_live:
        command, command_for = f"clerestory release promote {release.ref}", "To make it live, run"
    if data.approval is not None and (declined := declined_words(data.approval)):
        # What a person said last is read first; the verdict of the gate stays, one line below.
        stays = f"The verdict of the gate stays “{words.title}”: {titles.get((verdict, data.is_live), contradiction)}"
        command, command_for = next_step(data.approval), "To request its approval again, run"
        if data.is_live and any(each.alias == "previous" for each in data.aliases):
            command = f"clerestory release rollback {release.name} --why '...'"
            command_for = "To make the release before it live again, run"
        shown = (stays, *(line for line in lines[:-1] if line))
        return DecisionView("no", "Declined", declined, shown, command, command_for if command else "")
    return DecisionView(
        STATES[verdict],
        words.title,
        titles.get((verdict, data.is_live), contradiction),
        tuple(line for line in lines if line),
        command,
        command_for if command else "",
    )


def with_licences(view: DecisionView, data: ReportData, answer: LicenceAnswer) -> DecisionView:
    """The headline with a line on licences, where they stand in the way and the policy has no rule on them."""
    rules = data.policy.rules if data.policy is not None else ()
    if data.release is None or answer.word == "yes" or any(rule.metric == BLOCKING_LICENCES for rule in rules):
        return view
    sources = format.plural(answer.num_blocking, "source")
    verb = "is blocked by" if answer.word == "no" else "is unclear for"
    line = f"Licences: not judged by this policy; commercial use {verb} {sources}."
    return replace(view, lines=(*view.lines[:1], line, *view.lines[1:]))


def _live(data: ReportData, release: Release) -> str:
    if data.promotion is not None:
        event = data.promotion.event
        how = " by a rollback to it" if event.kind == "rolled_back" else ""
        return f"Live since {format.when(event.when)}. {event.who} made it live{how}: {_quote(event.why)}"
    if data.is_live:
        return "It is live; the journal does not say since when."
    live = next((a for a in data.aliases if a.alias == "live"), None)
    if live is None:
        return f"No release of {release.name} is live."
    return f"Live now: {live.name}@{live.number}."


def _approval(data: ReportData) -> str:
    """Who approved it, or what is missing; empty where the policy requires nothing."""
    state = data.approval
    if state is None or state.rule is None or not state.rule.approvals:
        return ""
    if not state.counting:
        return standing(state)[1]
    people = format.listing([f"{each.who} ({format.when(each.when)}, {each.identity})" for each in state.counting])
    given = f"{len(state.counting)} of {format.plural(state.rule.approvals, 'approval')} given: {people}."
    return f"{given} {account_notice(state)}".rstrip()


def _submitted(release: Release) -> str:
    return f"Submitted to the gate on {format.when(release.when)} by {release.who}: {_quote(release.why)}"


def _rules(release: Release) -> str:
    reasons = release.decision.reasons
    met = sum(r.outcome == "pass" for r in reasons)
    total, policy = len(reasons), f"of the policy {release.decision.policy}"
    if not total:
        return f"The policy {release.decision.policy} has no rules."
    if met == total:
        return f"The only rule {policy} is met." if total == 1 else f"All {total} rules {policy} are met."
    failed = sum(r.outcome == "fail" for r in reasons)
    unknown = total - met - failed
    parts = [f"{met} {'is' if met == 1 else 'are'} met"] if met else []
    parts += [f"{failed} {'is' if failed == 1 else 'are'} not met"] if failed else []
    parts += [f"{unknown} cannot be decided"] if unknown else []
    return f"Of the {format.plural(total, 'rule')} {policy}, {format.listing(parts)}."


def _quote(text: str) -> str:
    return f"“{text.strip()}”" if text.strip() else "(no reason given)"


def highlights(data: ReportData) -> tuple[Highlight, ...]:
    """At most three headline numbers: recall at the largest k, in both directions, and on an unseen style."""
    evidence = data.evaluation
    if evidence is None:
        return ()
    picked = []
    for split in splits_of(evidence):
        for task in (TaskName.IMAGE_TO_TEXT, TaskName.TEXT_TO_IMAGE):
            found = recalls(evidence, {"task": task, "split": split})
            if found:
                picked.append(_highlight(evidence, found[-1], task, split, data.diagnostics.trust))
    return tuple(picked[:MAX_HIGHLIGHTS])


def _highlight(evidence: Evidence, m: Measurement, task: str, split: str, trust: Sequence[BenchmarkTrust]) -> Highlight:
    queries, answer = ("pictures", "caption") if task == TaskName.IMAGE_TO_TEXT else ("texts", "picture")
    place = "in first place" if k_of(m) == 1 else f"among the first {k_of(m)} answers"
    number = candidates(evidence, task, split)
    among = f", out of {format.count(number)} candidates" if number else ""
    of = "in" if split == TEST_STYLE else "of"
    meaning = f"{queries} {of} {format.slice_value('split', split)} have the correct {answer} {place}{among}."
    guess = chance(evidence, m)
    if guess is not None:
        meaning += f" Guessing would get {_guess(guess)} of 100"
        meaning += ": this is no better than guessing." if at_chance(m, guess) else "."
    return Highlight(
        value=format.value_of_hundred(m),
        interval=format.between(m),
        meaning=meaning,
        basis=f"{m.name}, {format.slice_words(m.slice)}, {format.counted(m)}",
        anchor=f"recall-{slug(split)}",
        trust=trust_view(label_of(trust, *benchmark(m))),
    )


def _guess(share: float) -> str:
    return "fewer than 1" if share < 0.01 else f"{100 * share:.2g}"


def reasons(data: ReportData) -> tuple[ReasonView, ...]:
    """The outcome of every rule; those that are not met come first."""
    if data.release is None:
        return ()
    evidence = {record.id: record.evidence for record in data.evidence}
    return reason_views(data.release.decision, data.policy, evidence, data.diagnostics.trust)


def reason_views(
    decision: Decision, policy: Policy | None, evidence: Mapping[str, Evidence], trust: Sequence[BenchmarkTrust]
) -> tuple[ReasonView, ...]:
    """The outcome of every rule of a decision; those that are not met come first.

    Args:
        decision: of the gate.
        policy: with the rules; None where it cannot be read.
        evidence: by id, as far as it can be read.
        trust: the labels of benchmarks.
    """
    rules = {rule.name: rule for rule in policy.rules} if policy else {}
    ranked = sorted(decision.reasons, key=lambda reason: _OUTCOME_ORDER.index(reason.outcome))
    return tuple(
        _reason(reason, rules.get(reason.rule), evidence.get(reason.evidence), trust, f"fig-rule-{place}")
        for place, reason in enumerate(ranked, start=1)
    )


def _reason(
    reason: Reason, rule: Rule | None, evidence: Evidence | None, trust: Sequence[BenchmarkTrust], figure: str
) -> ReasonView:
    m = evidence.find(rule.metric, rule.where) if rule and evidence else None
    svg, plain = Markup(""), ""
    if rule is not None and rule.is_relative:
        plain = format.sentence(reason.message)
    elif rule is not None and m is not None and evidence is not None:
        what = f"{metric(m.name).title}, {format.slice_words(m.slice)}"
        plain = f"{what}: {format.of_hundred(m)} ({format.counted(m)}). Required: {_required(rule, m)}."
        svg = _bullet(rule, reason, evidence, m, figure)
    return ReasonView(
        rule=reason.rule,
        state=OUTCOME_STATES[reason.outcome],
        outcome=format.outcome(reason.outcome),
        plain=plain,
        message=reason.message,
        why=format.sentence(rule.why) if rule else "",
        anchor=f"evidence-{short(reason.evidence)}" if evidence is not None else "",
        evidence=short(reason.evidence) if reason.evidence else "",
        command=reason.command,
        svg=svg,
        trust=trust_view(label_of(trust, *benchmark(m))) if m is not None else None,
        reason=reason,
        measurement=m,
    )


def _required(rule: Rule, m: Measurement) -> str:
    """``at least 45 of 100, for the lower bound of the interval``."""
    minimum = rule.at_least is not None
    value = _bound(rule) * (100 if format.countable(m) else 1)
    unit = " of 100" if format.countable(m) else "" if m.unit in (format.SHARE, "rank") else f" {m.unit}"
    end = "lower" if minimum else "upper"
    criterion = f", for the {end} bound of the interval" if rule.criterion == "interval_bound" else ""
    return f"{'at least' if minimum else 'at most'} {value:g}{unit}{criterion}"


def _bound(rule: Rule) -> float:
    return rule.at_least if rule.at_least is not None else (rule.at_most or 0.0)


def _bullet(rule: Rule, reason: Reason, evidence: Evidence, m: Measurement, name: str) -> Markup:
    bound = _bound(rule) * (100 if format.countable(m) else 1)
    row = chart_row(evidence, m, reason.rule)
    top = charts.top_of([ChartGroup("", (row, ChartRow("", bound * 1.15, None, None, "")))])
    required = _required(rule, m)
    desc = f"{format.of_hundred(m)}; required: {required}; {format.outcome(reason.outcome)}"
    at_least = rule.at_least is not None
    label = f"{'at least' if at_least else 'at most'} {bound:g}"
    title, state = f"{reason.rule}, against its bound", OUTCOME_STATES[reason.outcome]
    return charts.bullet(name, title, desc, row, (bound, label), at_least, top, state)
