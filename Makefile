# Every target sets up what it needs: Python 3.11 or 3.12, make and a package registry are enough.
PYTHON ?= $(shell for p in python3.12 python3.11 python3; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
RUN := PYTHONPATH=.:platform $(BIN)/python

.PHONY: setup quickstart results-cpu test faults hosts-test lint ui bench bench-metrics gpu-check

setup: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or 3.12 is needed; name it: make PYTHON=/path/to/python3.12"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt -e '.[dev,export,aws,server]'
	@touch $@

quickstart: setup  ## streets -> precompute -> train -> evaluate, and the pictures of it
	$(RUN) -m jobs.quickstart

results-cpu: data/camvid-store/manifest.json setup  ## a row of docs/results.md in an hour on two cores; CAMVID=DIR has the dataset
	$(RUN) -m benchmarks.efficientnet_lite0 --out data/efficientnet-lite0.pth
	$(RUN) -m jobs.train camvid-cpu --store data/camvid-store --init.weights data/efficientnet-lite0.pth --num-workers 2 --run-name results-cpu
	$(RUN) -m jobs.evaluate --checkpoint runs/results-cpu --store data/camvid-store

data/camvid-store/manifest.json:
	@test -d "$(CAMVID)/train" || { echo "CamVid, the folder with train/ and trainannot/, is needed: make results-cpu CAMVID=DIR"; exit 1; }
	$(MAKE) setup
	$(RUN) -m jobs.precompute camvid --root "$(CAMVID)" --out data/camvid-store

test: setup
	$(RUN) -m pytest -n 2 --dist loadgroup

faults: setup  ## kills trainings, servers and disks for real; prints docs/operate.md's table
	rm -f faults-table.md
	FAULTS_TABLE=faults-table.md $(RUN) -m pytest tests/faults tests/platform_tests/sweeps -m "slow or not slow" --durations=0
	cat faults-table.md

hosts-test: setup  ## three hosts on this machine: `ray up`, a training, a power cut; prints docs/cluster.md's table
	@tests/hosts/packages.sh
	rm -f hosts-table.md
	HOSTS_TABLE=hosts-table.md $(RUN) -m pytest tests/hosts -m slow --durations=0
	@test ! -f hosts-table.md || cat hosts-table.md

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright

ui: setup  ## the MLflow UI over the runs of this folder, on http://127.0.0.1:5000
	MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false $(BIN)/mlflow ui --backend-store-uri sqlite:///runs/mlflow.db --host 127.0.0.1

bench: setup  ## the figures that need no GPU; benchmarks/README.md names the others
	$(RUN) -m benchmarks.store_encoding
	$(RUN) -m benchmarks.edges

bench-metrics: setup  ## boundary F and boundary IoU against the plain ways to compute them; a minute or two on one core
	$(RUN) -m benchmarks.metrics

gpu-check: setup  ## every open GPU check that fits into ten minutes; STORE=DIR adds the loader's
	$(RUN) -m benchmarks.gpu_check $(if $(STORE),--store $(STORE))
