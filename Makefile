# make demo | figures | test | fault | lint | bench | gpu: each builds the environment first, once per state of the
# requirement files. It lives outside the clone, so that fresh clones share it: set HSC_ENV to put it elsewhere,
# PYTHON to choose the interpreter (3.10 to 3.14).
PYTHON ?= python3
CACHE  ?= $(if $(XDG_CACHE_HOME),$(XDG_CACHE_HOME),$(HOME)/.cache)
KEY    := $(shell { cat requirements.txt requirements-dev.txt; $(PYTHON) -V; } | cksum | cut -d' ' -f1)
HSC_ENV ?= $(CACHE)/hsc/env-$(KEY)
RUN    := $(HSC_ENV)/bin/python
OURS   := $(HSC_ENV)/.made-by-make
READY  := $(HSC_ENV)/.complete

.PHONY: demo figures test fault lint bench gpu env ready
env: ready
	@echo "to enter it: source $(HSC_ENV)/bin/activate"

# An environment is made anew where its Python is gone. The mark of a whole one comes last, so that an interrupted
# installation is never taken for it; the mark that make began it goes last, so that what is left of one can be removed.
ready:
	@set -e; \
	if [ -e "$(READY)" ] && "$(RUN)" -c '' 2>/dev/null; then exit 0; fi; \
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 10) <= v <= (3, 14) else "Python 3.10 to 3.14 is needed, %s is %d.%d: set PYTHON=python3.11" % (sys.executable, *v))'; \
	if [ -e "$(HSC_ENV)" ] && [ ! -e "$(OURS)" ]; then \
		echo "HSC_ENV=$(HSC_ENV): there already, and no environment that make began; choose a new folder"; exit 2; fi; \
	echo "installing the environment into $(HSC_ENV) (once, about 6 GB)"; \
	mkdir -p "$(HSC_ENV)"; touch "$(OURS)"; rm -f "$(READY)"; \
	find "$(HSC_ENV)" -mindepth 1 -not -path "$(OURS)" -delete; \
	$(PYTHON) -m venv "$(HSC_ENV)"; \
	"$(RUN)" -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt; \
	touch "$(READY)"

demo: ready
	"$(RUN)" demo.py

figures: ready
	"$(RUN)" -m paper.figures

# Files in their order, which leaves nothing slow to the end.
test: ready
	"$(RUN)" -m pytest tests -n 2 --dist loadfile --no-loadscope-reorder

fault: ready
	"$(RUN)" -m pytest tests/fault --rounds 50

lint: ready
	"$(RUN)" -m ruff check .
	"$(RUN)" -m ruff format --check .

bench: ready
	"$(RUN)" -m benchmark.eval_curve
	"$(RUN)" -m benchmark.crf
	"$(RUN)" -m benchmark.terms
	"$(RUN)" -m benchmark.walk
	"$(RUN)" -m benchmark.crt
	"$(RUN)" -m benchmark.rebalance --batch_size 2 --crop_size 256
	"$(RUN)" -m benchmark.superpixel
	"$(RUN)" -m benchmark.msa
	"$(RUN)" -m benchmark.msa_seeds
	"$(RUN)" -m benchmark.infer
	"$(RUN)" -m benchmark.loader
	"$(RUN)" -m benchmark.scale
	"$(RUN)" -m benchmark.lists

# Everything that a GPU has to show (docs/gpu.md).
gpu: ready
	"$(RUN)" -m benchmark.gpu --out exps/gpu
