"""The answer in plain words: may it ship, since when is it live, by whom, why, and what to run next."""

from __future__ import annotations

from dataclasses import replace

from markupsafe import Markup

from clerestory.core.digest import short
from clerestory.core.evidence import Evidence, Measurement
from clerestory.core.release import Reason, Release, Rule
from clerestory.report import charts, format
from clerestory.report.charts import Group
from clerestory.report.metric_figures import candidates, chance, k_of, mark, recalls, slug, splits_of
from clerestory.report.model import ReportData
from clerestory.report.trust import benchmark, label_of
from clerestory.report.trust import view as trust_view
from clerestory.report.view import Answer, Highlight, ReasonView, TrustView

STATES = {"ship": "yes", "refuse": "no", "cannot_tell": "unsure"}
OUTCOME_STATES = {"pass": "yes", "fail": "no", "cannot_tell": "unsure"}


def answer(data: ReportData) -> Answer:
    """The headline."""
    release = data.release
    if release is None:
        return Answer(
            "unsure",
            "Cannot tell",
            f"Nobody has put the model {data.name} to the gate yet.",
            ("So there is no decision, and it is not live anywhere in this store.",),
            f"clerestory release gate {data.name}",
            "To get an answer, run",
        )
    verdict = release.decision.verdict
    words = format.verdict(verdict)
    titles = {
        ("ship", True): f"{release.ref} may ship, and it is live.",
        ("ship", False): f"{release.ref} may ship. It is not live.",
        ("refuse", False): f"{release.ref} must not ship.",
        ("cannot_tell", False): f"Whether {release.ref} may ship cannot be told yet.",
    }
    odd = f"{release.ref} is live although its decision is “{words.title.lower()}”."
    lines = [_live(data, release), _decided(release), _rules(release)]
    command, command_for = release.decision.command, "The cheapest command that would change the answer"
    if verdict == "ship" and not data.is_live:
        command, command_for = f"clerestory release promote {release.ref}", "To make it live, run"
    return Answer(
        STATES[verdict],
        words.title,
        titles.get((verdict, data.is_live), odd),
        tuple(line for line in lines if line),
        command,
        command_for if command else "",
    )


def _live(data: ReportData, release: Release) -> str:
    if data.live is not None:
        event = data.live.event
        how = {"rolled_back": "by rolling back to it", "rolled_forward": "by rolling forward to it"}.get(event.kind, "")
        by = f" {how}" if how else ""
        return f"Live since {format.when(event.when)}. {event.who} made it live{by}: {_quote(event.why)}"
    if data.is_live:
        return "It is live; the journal does not say since when."
    live = next((a for a in data.aliases if a.alias == "live"), None)
    if live is None:
        return f"No release of {release.name} is live."
    return f"Live now: {live.name}@{live.number}."


def _decided(release: Release) -> str:
    return f"Put to the gate on {format.when(release.when)} by {release.who}: {_quote(release.why)}"


def _rules(release: Release) -> str:
    reasons = release.decision.reasons
    holds = sum(r.outcome == "pass" for r in reasons)
    total, policy = len(reasons), f"of the policy {release.decision.policy}"
    if not total:
        return f"The policy {release.decision.policy} has no rules."
    if holds == total:
        return f"The one rule {policy} holds." if total == 1 else f"All {total} rules {policy} hold."
    failed = sum(r.outcome == "fail" for r in reasons)
    unknown = total - holds - failed
    parts = [f"{holds} {'holds' if holds == 1 else 'hold'}"] if holds else []
    parts += [f"{failed} {'does' if failed == 1 else 'do'} not hold"] if failed else []
    parts += [f"{unknown} cannot be told"] if unknown else []
    return f"Of the {format.plural(total, 'rule')} {policy}, {format.listing(parts)}."


def _quote(text: str) -> str:
    return f"“{text.strip()}”" if text.strip() else "(no reason given)"


def highlights(data: ReportData) -> tuple[Highlight, ...]:
    """At most three numbers that anybody can understand: the widest recall, both ways, and on a style never seen."""
    held = data.of_kind("evaluate")
    if held is None:
        return ()
    evidence, picked = held.evidence, []
    splits = splits_of(evidence)
    for task, split in [(t, s) for s in splits for t in ("image_to_text", "text_to_image")]:
        found = recalls(evidence, {"task": task, "split": split})
        if found:
            picked.append(replace(_highlight(evidence, found[-1], task, split), trust=_trust(data, found[-1])))
    return tuple(picked[:3])


def _highlight(evidence: Evidence, m: Measurement, task: str, split: str) -> Highlight:
    asked, wanted = ("pictures", "words") if task == "image_to_text" else ("texts", "picture")
    of = format.slice_value("split", split)
    place = "in first place" if k_of(m) == 1 else f"among its first {k_of(m)} answers"
    pool = candidates(evidence, task, split)
    among = f", out of {format.count(pool)} to choose from" if pool else ""
    meaning = f"{asked} of {of} get the right {wanted} {place}{among}."
    if split == "test_style":
        meaning = f"{asked} from {of} get the right {wanted} {place}{among}."
    text, _, between = format.of_hundred(m).partition(", ")
    guess = chance(evidence, m)
    against = "" if guess is None else f" Guessing would get {_guess(guess)} of 100."
    anchor = f"recall-{slug(split)}"
    return Highlight(
        text, between, meaning + against, f"{m.name}, {format.slice_words(m.slice)}, {format.counted(m)}", anchor
    )


def _guess(share: float) -> str:
    return "fewer than 1" if share < 0.01 else f"{100 * share:.2g}"


def reasons(data: ReportData) -> tuple[ReasonView, ...]:
    """The decision's reasons; those that do not hold come first."""
    if data.release is None:
        return ()
    order = {"fail": 0, "cannot_tell": 1, "pass": 2}
    found = enumerate(data.release.decision.reasons)
    ranked = sorted(found, key=lambda item: (order[item[1].outcome], item[0]))
    return tuple(_reason(data, reason, place) for place, (_, reason) in enumerate(ranked, start=1))


def _reason(data: ReportData, reason: Reason, place: int) -> ReasonView:
    rule = next((r for r in data.policy.rules if r.name == reason.rule), None) if data.policy else None
    evidence = next((h.evidence for h in data.evidence if h.id == reason.evidence), None)
    m = evidence.find(rule.metric, rule.where) if rule and evidence else None
    svg, plain = Markup(""), ""
    if rule is not None and rule.relative:
        plain = format.sentence(reason.message)
    elif rule is not None and m is not None and evidence is not None:
        what = f"{format.metric(m.name).title}, {format.slice_words(m.slice)}"
        plain = f"{what}: {format.of_hundred(m)} ({format.counted(m)}). Asked for: {_bound(rule, m)}."
        svg = _bullet(rule, reason, evidence, m, f"fig-rule-{place}")
    known = any(h.id == reason.evidence for h in data.evidence)
    return ReasonView(
        rule=reason.rule,
        state=OUTCOME_STATES[reason.outcome],
        words=format.outcome(reason.outcome),
        plain=plain,
        message=reason.message,
        why=format.sentence(rule.why) if rule else "",
        anchor=f"evidence-{short(reason.evidence)}" if known else "",
        evidence=short(reason.evidence) if reason.evidence else "",
        command=reason.command,
        svg=svg,
        trust=_trust(data, m) if m is not None else None,
    )


def _trust(data: ReportData, m: Measurement) -> TrustView | None:
    """The label of the benchmark that a number comes from, None where it has none."""
    found = label_of(data.examined.trust, *benchmark(m))
    return trust_view(found) if found is not None else None


def _bound(rule: Rule, m: Measurement) -> str:
    """``at least 45 of 100, even at the worse end``."""
    least = rule.at_least is not None
    value = _bound_value(rule) * (100 if format.countable(m) else 1)
    unit = " of 100" if format.countable(m) else "" if m.unit in (format.SHARE, "rank") else f" {m.unit}"
    judged = ", even at the worse end" if rule.judge == "interval" else ""
    return f"{'at least' if least else 'at most'} {value:g}{unit}{judged}"


def _bound_value(rule: Rule) -> float:
    return rule.at_least if rule.at_least is not None else (rule.at_most or 0.0)


def _bullet(rule: Rule, reason: Reason, evidence: Evidence, m: Measurement, name: str) -> Markup:
    bound = _bound_value(rule) * (100 if format.countable(m) else 1)
    row = mark(evidence, m, reason.rule)
    top = charts.top_of([Group("", (row, charts.Mark("", bound * 1.15, None, None, "")))])
    asked = _bound(rule, m)
    desc = f"{format.of_hundred(m)}; asked for: {asked}; {format.outcome(reason.outcome)}"
    state = OUTCOME_STATES[reason.outcome]
    at_least = rule.at_least is not None
    return charts.bullet(name, f"{reason.rule}, against its bound", desc, row, (bound, asked), at_least, top, state)
