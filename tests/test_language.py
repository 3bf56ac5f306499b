"""The language of the code base, enforced: one standard term for each concept, and plain English.

Each test lists every offence as ``path:line: words -> write this instead``. To work through one package, run
``python tests/test_language.py src/clerestory/store``: it prints the offences under a path prefix, and counts per rule.

It reads the Python, HTML, Markdown and TOML files of ``src/clerestory``, ``bench`` and ``docs``, ``README.md`` and
``CONTRIBUTING.md``, but not the changelog, which is history. An ADR may quote a retired word in quotation marks or
italics. To retire a name or a phrase, add it to a table below; a pattern must never match standard terms or good
English, so narrow it until then.
"""

# ruff: noqa: T201 (a script as well)
from __future__ import annotations

import ast
import gc
import io
import re
import sys
import tokenize
from bisect import bisect_right
from collections import Counter, defaultdict, namedtuple
from collections.abc import Callable, Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from itertools import groupby
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "src/clerestory/"
FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef


def table(text: str) -> dict[str, dict[str, str]]:
    """Read ``scope: old>new old>new …``."""
    assert not (same := re.findall(r"\s(\S+)>\1\s", text)), f"a bulk rename has changed this table: {same}"
    rows = re.findall(r"(\S+):((?:\s+[^\s:]+>\S+)+)", text)
    return {scope: dict(pair.split(">") for pair in pairs.split()) for scope, pairs in rows}


# Retired modules, by folder. The folders stages/evaluate/parts and report/sections are retired themselves.
MODULES = table("""
    stages/evaluate: bench>context pool>retrieval_split outputs>cached_embeddings pieces>sampling part>suite
        trusting>benchmark_validity overlap>contamination describing>captioning degraded>corrupted_embeddings
        learning>labelled_features classes>class_prompts answers>prediction_rows measures>sliced_metrics
        slicing>sliced_metrics subjects>fingerprint since>diff perturb>text_perturbation
    stages/evaluate/parts: words>text_perturbation speed>latency
    stages/evaluate/tasks: asking>memoised_queries choosing>multiple_choice views>ablations outcomes>scored_item
        shifts>effective_robustness finding>resolve answers>answer_parsing files>load measuring>sliced_metrics
    stages/train: material>train_data feed>loader feed_worker>loader_worker order>shuffle blending>mixture
        averaging>ema starting>model_init forecast>estimate_store expert_card>moe_report architecture>model_overrides
    stages/train/objectives: matching>contrastive pieces>grad_cache_step selfsup_late>self_distillation
        selfsup_teacher>distillation_losses selfsup_pool>unlabelled_sampler
    stages/train/losses: icons>bank_softmax pairs>validation tiles>tiling words>linear_cross_entropy nested>matryoshka
    stages/train/tune: noticed>findings student>trainable guard>forgetting curve>interpolation steps>loop
        pairs>caption_pairs    models: mixing>moe_factory opening>resolve similarity>clip_scorer
    stages/release: moves>promote deciding>gate judge>rules advice>next_command submitting>submit checking>verify
    models/adapters: wire>http_client    models/moe: card>expert_report    data: found>findings naming>emoji_names
        wording>caption_phrases inspection>image_scan fields>columns save>parquet
    report: nouns>model story>headline examined>diagnostics quality>metric_figures describe>dataset_summary
    report/sections: seeing>benchmark_validity sorting>classification beside>baseline_table certainty>calibration
        groups>fairness gates>self_test records>audit_trail learning>training_curves pictures>dataset
    web: sure>confidence words>labels live>model_follower guard>security gauge>interval_bar
        finder>search_index measured>measurement_views site>state pictures>images
    store: memo>answer_cache folders>model_store consistency>registry_check index>catalog    cli: faults>self_test
    stats: joining>pairing agreement>(delete)
""")

# Retired identifiers: those that are retired everywhere, and patterns (of a whole name) with what to write and where.
# Code spans of comments, docstrings and pages count, and so do strings of one word (keys).
NAMES = table("""names:
    put_between>interpolate_weights went_to>alias_target leaves_for>remote_host appearing>atomic_path
    only_one>file_lock before_keep>on_export early_decay>ema_warmup from_first>broadcast put_to_gate>run_gate
    learn_in_pieces>grad_cache_step thorough>is_full_check first_shown>first_prediction
    expert_rate>bias_update_speed most_in_flight>max_in_flight PicturesAlone>SelfSupervised Keyed>SampleRng
    Blend>MixtureSampler Elsewhere>FixedModel Served>LoadedModel Turned>RequestRejected Rival>RejectedCheckpoint
    Waiting>LatencyHistogram Written>CaptionExample Joined>PairedRows Degraded>CorruptedEmbeddings
    Lesson>LabelledFeatures lesson>labelled_features _errors_told>translate_disk_errors
    disk_errors_told>translate_disk_errors disk_told>translate_disk_errors --parts>--suites
""")["names"]
IDENTIFIERS: list[tuple[str, ...]] = [
    *((re.escape(old), new) for old, new in NAMES.items()),
    (r"(?!(disk|_errors|disk_errors)_told)(\w*_)?told(_\w*)?", "describe() or a noun: description, reported"),
    (r"\w*[Ss]ureness\w*|_?sure|Sure", "confidence; ScoreCalibrator, Calibrators"),
    (r"\w*([Ee]xamin(e|ed|es|ing|ation|ations)(?![a-z])|_exam_)\w*", "evaluate / evaluated / evaluation"),
    (r"Bench|bench", "EvaluationContext / context", "src/clerestory/"),
    (r"PartState|PartView|Part|PART|part_(code|kind|subject)|own_part", "suite: Suite, SuiteState, suite_code",
     "src/clerestory/(stages/evaluate|cli|web|flows|core)"),
    (r"(\w*_)?seeing(_\w*)?", "caption_loss (log key), with_image (ablation)"),
    (r"bias_E", "expert_bias_E", "src/"), (r"Watch", "Instrumentation", "src/clerestory/stages/train"),
    (r"Found|Asked|Held|Shown|Given|Chosen|Drawn|Needed|Sent|Seen|Several|Same|Look",
     "a noun that names the thing: SuiteResult, RoutingEvent, RetentionCheck …", "(src|bench)/"),
]  # fmt: skip

# Retired members of a class (by its name) or of a module (by its path), where they are defined.
MEMBERS = table("""
    Run: finish>fit keep>export averaged>ema_model _learn>forward_backward Objective: learn>backward Captions:
    look>encode match>contrastive_loss say>caption_loss learners>num_captioned StepContext: piece>micro_batch Ranks:
    mine>shard own>offset from_first>broadcast Engine: first>is_main EvaluateConfig: described>caption_samples
    asked>vqa_samples corrupted>corruption_samples timed>latency_samples rate>arrival_rate parts>suites LoadConfig:
    rate>arrival_rate_per_s TrainConfig: clip>max_grad_norm ema>ema_decay workers>num_workers
    accumulate>grad_accum_steps keywords>keyword_prob variants>variant_prob bank>negatives_bank TuneConfig:
    clip>max_grad_norm looks>num_validations pictures>max_samples SelfSupervision: hidden>mask_ratio
    gaussian>sigreg_weight Record: found>batch_accuracy guess>chance_loss seeing>caption_loss
    blind>caption_loss_shuffled spread>embedding_std kept>retained_recall cli/evaluate: parts>suites
    models/moe/dispatch: spread>dispatch gather>combine models/moe/experts: mix>combine models/runtime:
    Model>ClerestoryEncoder stages/train/averaging: follow>ema_update stages/train/ema: follow>ema_update
    stages/train/tune/evidence: Sheet>ScoreTable store/index: remember>cache_put recall>cache_get store/catalog:
    remember>cache_put recall>cache_get store/store: remember>cache_put recall>cache_get web/sure:
    Scale>ScoreCalibrator web/confidence: Scale>ScoreCalibrator
""")
# Settings that a page names: a code span such as `clip` or `clip = 1`, or such a line in a code block.
SETTINGS = MEMBERS["EvaluateConfig"] | MEMBERS["TrainConfig"] | MEMBERS["SelfSupervision"]
SETTINGS = {old: new for old, new in SETTINGS.items() if old not in ("parts", "rate", "keywords")}  # other uses

# Phrases that an engineer from another company would stumble over, and what to write; "engineers" leaves pages out.
BE = r"(is|are|was|were|be|been|being)"
DONE = (
    "kept|asked|found|noticed|measured|said|sent|drawn|seen|known|learnt|lost|gained|answered|trained|written|named|"
    "given|done|there|here|wanted|needed|meant|signed|released|stored|compared|served|shown|hidden|damaged|foretold|"
    "printed|pinned|used|computed|accepted|examined|timed|looked|published|promised|alike|visible|stale|noted|told"
)
PHRASES: list[tuple[str, ...]] = [
    (rf"\b{BE} (not |never |only |also |all )?told\b(?! (to|apart))|\bTold\b|\btold right\b", "is reported"),
    (rf"(?<!there )(?<!There )\b{BE} no (?!(longer|more|less|better|worse|larger|smaller|wider|closer|different|use|"
     r"guarantee|exception|match for|way|such|one|reason)\b)[A-Za-z§]\w*", '"is not a …"'),
    (rf"(?<!there )(?<!There )(?<!where )\b{BE} none\b", '"is not one of …", "none of … is"'),
    (rf"\b[Ww]hat {BE} (not|no|never|{DONE})\b(?![^.!?\n]*\?)", "the noun: the findings, the missing …"),
    (r"\b([Nn]eeded|Kept|Asked|Counted|Measured|Missing|Left) (is|are|was|were)\b", "subject first: … is needed"),
    (r"\b[Aa]sked[- ]for\b", "required, requested"), (r"\bthe at (least|most)\b", "the required minimum / maximum of"),
    (r"\bsureness\b|\b(too sure|timid)\b", "confidence, over-/underconfident"),
    (rf"\b[Hh]ow sure\b|\bSure\b|\b{BE} (not |very |more |less )?sure (of|about)\b", "confidence", "engineers"),
    (r"\b([Ww]ithout|about|[Ww]hat|with) seeing\b(?! (which|that|how|a|an|any|every|all)\b)|\bseeing adds\b",
     "without the image, visual grounding"),
    (r"\b[Ee]xamin(e|es|ed|ing|ation|ations|er)\b", "evaluate / evaluated / evaluation"),
    (r"\b(newest|least|most|every|as|than|with|first|last) so many\b|\bso many of a hundred|so[- ]many-?th\b", "N, n"),
    (r"(?<!no )(?<!enough )(?<!more )(?<!has )(?<!is )(?<!make )(?<!leave )\b[Rr]ooms?\b(?! (for|left|to|on)\b)",
     "layer (of the architecture), space"),
    (r"\b(every|each|all|last|first|next|healthy|between|after) looks?\b(?! (at|like|for|up|into|the|it)\b)", "check"),
    (r"\b(a|plain|each|every|[Rr]eads|[Ww]rites|[Tt]h(e|is|ese)) nouns?\b(?! (phrase|in a))", "record, data class"),
    (rf"\b{BE} (not |never |also |only )?learnt from\b|\blearnt from (it|them)\b", "training data, trained on"),
    (r"\bspeaks? (of|against)\b|\b(gates?|checks?|detectors?|side file|it|evidence) speaks?\b(?! the)",
     "refers to, reports, triggers"),
    (r"\b(does|do|did) not tell (it|how|its)\b|\bworth telling\b", "does not report"),
]  # fmt: skip
# The same for fixed phrases, as "pattern => write"; the ends of a pattern are the ends of words.
IDIOMS = r"""
    kinds? of damage|[Oo]n damaged (pictures|images)|[Ss]orting damaged => corruption; put in on purpose => injected;
    [Ll]earn(s|t|ing)? in pieces|through the model in pieces => micro-batches; gradient('s)? lengths? => gradient norm;
    rightly|(sorted|answered|named|classified|guessed) right => correctly; (take|takes|took) home => gets, receives;
    the ones? (it|they) (came|comes?) from => the original, the source; ([Tt]he|a|this|its) feed|feed's => data loader;
    held against|holds? (it|them|this|\w+s) against => compared with; the house'?s? (style|rule|word) => the project's;
    (low|lower|upper) end of (its|the|an) .{0,10}interval => bound; (the|a|these|its) lessons? => labelled features;
    (by|with) other code => by a different version of the code; (come|comes|came|coming) (near|nearest) => the closest;
    [Pp]ut(s|ting)? (\w+ ){0,3}to the gate => run the gate on; (goes|go|went) on (bit for bit|where|from) => resumes;
    [Ll]ines? of models => model name (registered model); by name and with => name the problem and the remedy;
    foret(ell|ells|old|elling) => estimate, predict; of today => current;
    but for(?! (the fact|a moment)) => except for; cr(y|ies|ied) wolf => false alarms; that nothing has => unknown;
    calm(est|er)? => lowest running median; mend(s|ed|ing)? => fix; can do nothing that => lacks; nought => zero;
    the same any ?more => has changed; stopped coming => stalled; twins? => near-duplicate; next to no => almost no;
    whole li(fe|ves) => lifecycle; [Aa]ddress(es)? (instead )?of (an? |the )?(image|endpoint|page|review)s? => URL
"""
# "picture" is for people who are not engineers: these pages, string literals that pages show, prompts for models.
PICTURE = re.compile(r"pictures?", re.IGNORECASE)
PAGES = re.compile(r"README\.md|docs/tutorials/|src/clerestory/(web|report)/templates/")
SHOWN = re.compile(r"src/clerestory/(web|report)/")
PROMPTS = re.compile(
    r"\ba picture of (\{|§|something else)|\bin the picture\?|[Dd]escribe the picture in a few words"
    r"|[Dd]escribe this picture in one short sentence"
    r"|captions for this picture"
)
# String literals in which models reply, in many languages.
REPLIES = "src/clerestory/models/replies/"
# A common name of a column in the tables that people bring.
ALIASES = {(path, "picture") for path in ("src/clerestory/data/columns.py", "docs/reference/data-formats.md")}
# Names of random streams are part of a training's result: another name would give other weights.
STREAMS = {
    "src/clerestory/stages/train/sampling.py": "picture of a concept",
    "src/clerestory/stages/train/objectives/selfsup.py": "pictures",
}
# Requirements in the words of NIST, quoted as they are.
QUOTED = "stages/govern/catalogues/nist-*.toml"
Offence = namedtuple("Offence", "path line rule words write")
# Code on one line; its kind is a name, a key (a string of one word), a span within prose, or other code.
Names = namedtuple("Names", "line kind text")


class Source:
    """One file: its syntax tree, the names of code in it, and its prose by kind (doc, comment, string, page)."""

    def __init__(self, path: str, text: str) -> None:
        self.path, self.names = path, list[Names]()
        self.prose: dict[str, str] = defaultdict(str)
        self.starts: dict[str, list[tuple[int, int]]] = defaultdict(list)  # of lines: offset and number
        self.module = path.removeprefix(PACKAGE).removesuffix(".py") if re.match(rf"{PACKAGE}.*\.py$", path) else ""
        self.nodes = list(ast.walk(ast.parse(text))) if path.endswith(".py") else []
        self.read_python(text) if self.nodes else self.read_page(text)

    def read_python(self, text: str) -> None:
        run, kind, before, depth = list[tuple[int, str]](), "", tokenize.NEWLINE, 0
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            name, line, now = tokenize.tok_name[token.type], token.start[0], ""
            depth += (name == "FSTRING_START") - (name == "FSTRING_END")
            self.names += [Names(line, "name", token.string)] if name == "NAME" else []
            if name in ("NL", "FSTRING_START", "FSTRING_END") or (depth and name != "FSTRING_MIDDLE"):
                continue
            if name == "COMMENT":
                now, body = "comment", token.string.lstrip("# ")
            elif name in ("STRING", "FSTRING_MIDDLE"):
                now = "doc" if before in (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT) else "string"
                body = self.literal(token.string, line) if name == "STRING" else token.string
            if now != kind or (now == "comment" and line > run[-1][0] + 1):
                self.add(kind, run)
                kind, run = now, []
            run += [(line + i, part) for i, part in enumerate(body.replace("\\n", "  ").split("\n"))] if now else []
            before = before if now == "comment" else token.type
        self.add(kind, run)

    def literal(self, text: str, line: int) -> str:
        """What a string literal says; before Python 3.12 an f-string is one token, so its code is cut out here."""
        prefix, _, body = re.split(r"(\"{3}|'{3}|\"|')", text, maxsplit=1)
        body = body.rstrip("\"'")
        if "f" in prefix.lower():
            body = body.replace("{{", "(").replace("}}", ")")
            while code := re.search(r"\{([^{}]*)\}", body):
                self.names += [Names(line, "name", name) for name in re.findall(r"[A-Za-z_]\w+", code[1])]
                body = body.replace(code.group(), "§")
        return body

    def read_page(self, text: str) -> None:
        run, fenced, kind = list[tuple[int, str]](), False, self.path.rpartition(".")[2]
        for number, line in enumerate(text.splitlines(), 1):
            codes = re.findall(r"\{\{.*?\}\}|\{%.*?%\}", line)
            if kind == "md" and (fenced or line.lstrip().startswith("```")):
                fenced ^= line.lstrip().startswith("```")
                codes = [line]
            elif kind == "toml":
                codes = re.findall(r"^\s*[\w.\-]+\s*=", line)
            for code in codes:
                self.names.append(Names(number, "code", re.sub(r'"[^"]*"', "", code) if kind == "html" else code))
                line = line.replace(code, "§")
            line = re.sub(r"\]\([^)]*\)", "]", line) if kind == "md" else line
            if self.path.startswith("docs/adr/"):
                line = re.sub(r"“[^”]*”|\"[^\"]*\"|(?<!\*)\*[^*]+\*(?!\*)", "§", line)
            run.append((number, line))
        self.add("page", run)

    def add(self, kind: str, run: list[tuple[int, str]]) -> None:
        """Join lines, so that a phrase may break anywhere, and take code spans out of the text."""
        if kind == "string" and self.path.startswith(REPLIES):
            return
        if kind == "string" and not re.search(r"\s", whole := "".join(text for _, text in run).strip()):
            self.names.append(Names(run[0][0], "key", whole))
        elif kind:
            text, base = "", len(self.prose[kind])
            for number, line in run:
                self.starts[kind].append((base + len(text), number))
                text += re.sub(r"\s+", " ", line.strip()) + " " if line.strip() else "\n"
            for span in re.finditer(r"``[^`\n]+``|`[^`\n]+`", text):
                self.names.append(Names(self.line(kind, base + span.start()), "span", span.group().strip("`")))
                text = text.replace(span.group(), "§" * len(span.group()))
            self.prose[kind] += text + "\n"

    def line(self, kind: str, offset: int) -> int:
        return self.starts[kind][bisect_right(self.starts[kind], (offset, sys.maxsize)) - 1][1]


@cache
def sources() -> list[Source]:
    files = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    for top, ends in (("src/clerestory", "py html md toml"), ("bench", "py md toml"), ("docs", "md")):
        files += [file for end in ends.split() for file in (ROOT / top).rglob(f"*.{end}")]
    files = [file for file in files if not file.match(QUOTED)]
    gc.disable()  # syntax trees are many objects, and none of them is garbage
    found = [Source(file.relative_to(ROOT).as_posix(), file.read_text("utf-8")) for file in sorted(files)]
    gc.enable()
    return found


CHECKS: list[Callable[[], Iterator[Offence]]] = []


def check(offences: Callable[[], Iterator[Offence]]) -> Callable[[], None]:
    """Make a test of a function that yields offences."""
    CHECKS.append(offences)

    def test() -> None:
        found = sorted(set(offences()))
        if found:
            lines = (f"{each.path}:{each.line}: {each.words} -> {each.write}" for each in found)
            pytest.fail("\n".join([f"{len(found)} offences", *lines]), pytrace=False)

    return test


@check
def test_modules_have_standard_names() -> Iterator[Offence]:
    moved = {"stages/evaluate/suites": "stages/evaluate/parts", "report/chapters": "report/sections"}
    folders = MODULES | {new: MODULES[old] for new, old in moved.items()}
    retired = {f"{folder}/{old}": new for folder, pairs in folders.items() for old, new in pairs.items()}
    mention = re.compile(rf"\b({'|'.join(sorted(retired, key=len, reverse=True))})\.py\b")
    for source in sources():
        if (module := source.module.replace("/shared/", "/")) in retired:
            yield Offence(source.path, 1, "module", source.module, retired[module])
        if re.match("(stages/evaluate/parts|report/sections)/", source.module):
            yield Offence(source.path, 1, "folder", source.module, "stages/evaluate/suites/, report/chapters/")
        for line, _, text in source.names:
            for hit in mention.findall(text):
                yield Offence(source.path, line, "module", f"{hit}.py", retired[hit])


@check
def test_identifiers_are_standard_terms() -> Iterator[Offence]:
    rules = [(re.compile(old), new, re.compile("".join(where))) for old, new, *where in IDENTIFIERS]
    known: dict[str, list[tuple[str, re.Pattern[str]]]] = {}
    for source in sources():
        for line, kind, text in dict.fromkeys(source.names):
            word = kind == "key" and not re.search(r"[_/.]", text)  # "pictures" may be a word on a page
            for_people = (SHOWN if word else PAGES).match(source.path) and not source.path.endswith(".html")
            for name in (text,) if kind == "name" else re.findall(r"(?:--)?[A-Za-z_]\w*", text):
                if name not in known:
                    known[name] = [(new, where) for old, new, where in rules if old.fullmatch(name)]
                message = kind == "span" and " " in text and name.islower()  # a span that quotes a sentence
                for new, where in known[name] if not message else ():
                    if where.match(source.path):
                        yield Offence(source.path, line, "identifier", name, new)
                exempt = (source.path, name) in ALIASES | set(STREAMS.items())
                if PICTURE.search(name) and not for_people and not exempt:
                    yield Offence(source.path, line, "picture (identifier)", name, "image")


@check
def test_members_and_settings_are_standard_terms() -> Iterator[Offence]:
    setting = re.compile(rf"({'|'.join(SETTINGS)})(\s*=.*)?")
    for source in sources():
        defined = [(source.module, n) for n in source.nodes if isinstance(n, FUNCTIONS | ast.ClassDef | ast.arg)]
        for owner in (node for node in source.nodes if isinstance(node, ast.ClassDef)):
            fields = (node.target for node in owner.body if isinstance(node, ast.AnnAssign))
            stored = (n for n in ast.walk(owner) if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Store))
            methods = (node for node in owner.body if isinstance(node, FUNCTIONS))
            defined += [(owner.name, node) for node in (*fields, *stored, *methods)]
        for scope, node in defined if source.module else ():
            name = next((getattr(node, key) for key in ("name", "arg", "attr", "id") if hasattr(node, key)), "")
            if name in MEMBERS.get(scope, ()):
                yield Offence(source.path, node.lineno, "member", f"{scope}.{name}", MEMBERS[scope][name])
        for line, _, text in source.names if source.path.endswith(".md") else ():
            if hit := setting.fullmatch(text.strip()):
                yield Offence(source.path, line, "setting", hit[1], SETTINGS[hit[1]])


@check
def test_prose_is_plain_english() -> Iterator[Offence]:
    idioms = (idiom.split(" => ") for idiom in " ".join(IDIOMS.split()).split("; "))
    phrases = [*PHRASES, *((rf"\b({old})(?!\w)", new) for old, new in idioms)]
    rules = [(re.compile(rule, re.MULTILINE), write, readers) for rule, write, *readers in phrases]
    for source in sources():
        for kind, text in source.prose.items():
            for_people = PAGES.match(source.path) or (kind == "string" and SHOWN.match(source.path))
            for rule, write, readers in rules:
                for hit in rule.finditer(text) if not (readers and for_people) else ():
                    yield Offence(source.path, source.line(kind, hit.start()), f"phrase: {write}", hit.group(), write)


@check
def test_engineers_read_image_not_picture() -> Iterator[Offence]:
    for source in sources():
        for kind, text in source.prose.items():
            for_people = PAGES.match(source.path) or (kind == "string" and SHOWN.match(source.path))
            prompts = {at for hit in PROMPTS.finditer(text) for at in range(*hit.span())} if kind == "string" else ()
            for hit in PICTURE.finditer(text) if not for_people else ():
                stream = kind == "string" and text.startswith(STREAMS.get(source.path, "\0"), hit.start())
                if hit.start() not in prompts and not stream:
                    yield Offence(source.path, source.line(kind, hit.start()), "picture (prose)", hit.group(), "image")


@check
def test_public_class_names_exist_once() -> Iterator[Offence]:
    places: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for source in sources():
        for node in source.nodes if source.module else ():
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append((source.path, node.lineno))
    for name, found in places.items():
        for path, line in found if len(found) > 1 else ():
            yield Offence(path, line, "class twice", f"class {name} ({len(found)} times)", "a name of its own")


def import_cycles(inside_functions: bool = False) -> Iterator[Offence]:
    """Cycles among imports at module level, under TYPE_CHECKING as well, and on demand of those inside functions."""
    named = {f"clerestory.{s.module.replace('/', '.')}".removesuffix(".__init__"): s for s in sources() if s.module}
    graph: dict[str, dict[str, int]] = {name: {} for name in named}  # the line of each import
    for name, source in named.items():
        nodes = source.nodes[:1]
        for node in nodes:
            targets = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                full = (f"{node.module}.{alias.name}" for alias in node.names)
                targets = [each if each in named else node.module for each in full]
            graph[name] |= {target: node.lineno for target in targets if target in named and target != name}
            if inside_functions or not isinstance(node, FUNCTIONS | ast.expr):
                nodes += ast.iter_child_nodes(node)
    while True:
        try:
            return TopologicalSorter(graph).prepare()
        except CycleError as error:
            cycle = error.args[1][::-1]
            words = " imports ".join(each.removeprefix("clerestory.") for each in cycle)
            line = graph[cycle[0]].pop(cycle[1])
            yield Offence(named[cycle[0]].path, line, "import cycle", words, "imports in one direction")


test_imports_have_no_cycle = check(import_cycles)

PARSERS = {"startswith", "endswith", "split", "rsplit", "partition", "rpartition", "removeprefix", "removesuffix"}
MATCHERS = {"match", "search", "fullmatch", "findall", "finditer", "sub"}


@check
def test_no_code_parses_a_sentence() -> Iterator[Offence]:
    """Neither ``message`` and ``fix`` nor the values of ``facts``, nor variables of a function that hold one."""
    candidates = (s for s in sources() if {"message", "fix", "facts"} & {each.text for each in s.names})
    for source, scope in ((s, node) for s in candidates for node in s.nodes if isinstance(node, FUNCTIONS)):
        held: dict[str, str] = {}
        for node in ast.walk(scope):
            match node:
                case ast.Assign(targets=[ast.Name(id=name)], value=value) | ast.NamedExpr(ast.Name(id=name), value):
                    held |= {name: kind} if (kind := _sentence(value, {})) else {}
        for node in ast.walk(scope):
            read: list[ast.expr] = []
            match node:
                case ast.Call(ast.Name("float" | "int"), args) | ast.Call(ast.Attribute(ast.Name("re")), args):
                    read = args
                case ast.Call(ast.Attribute(value, attr), args) if attr in PARSERS | MATCHERS:
                    read = [value] if attr in PARSERS else args
                case ast.Compare(_, [ast.In() | ast.NotIn()], [text]) if _sentence(text, held) == "message":
                    read = [text]
                case ast.Compare(left, [ast.Eq() | ast.NotEq()], [right]) if ast.unparse(right) != "''":
                    read = [side for side in (left, right) if _sentence(side, held) == "message"]
            for kind in {_sentence(each, held) for each in read} - {""}:
                words = ast.unparse(node).replace("\n", " ")[:90]
                yield Offence(source.path, node.lineno, f"parses a {kind}", words, "a field, an enum or a code to read")


def _sentence(node: ast.expr, held: dict[str, str]) -> str:
    match node:
        case ast.Name("message" | "fix") | ast.Attribute(_, "message" | "fix"):
            return "message"
        case ast.Subscript(holder) | ast.Call(ast.Attribute(holder, "get")):
            return "facts" if re.search(r"(^|\.)facts$", ast.unparse(holder)) else ""
    return held.get(node.id, "") if isinstance(node, ast.Name) else ""


def main(prefix: str) -> None:
    """Print the offences under a path prefix, by file, and how many each rule has."""
    offences = [each for each in sorted({o for offences in CHECKS for o in offences()}) if each.path.startswith(prefix)]
    for path, found in groupby(offences, key=lambda each: each.path):
        print(path, *(f"  {each.line:4}: {each.words} -> {each.write}" for each in found), sep="\n")
    for rule, count in [*Counter(each.rule for each in offences).most_common(), ("offences in all", len(offences))]:
        print(f"{count:6} {rule}")
    for each in import_cycles(inside_functions=True):
        if each.path.startswith(prefix) and each not in offences:
            print(f"with imports inside functions, for information only: {each.words}")


if __name__ == "__main__":
    main(sys.argv[1].removeprefix("./") if len(sys.argv) > 1 else "")
