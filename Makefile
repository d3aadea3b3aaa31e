# Every target is one command of dev.py, which sets up .venv by itself. Without make: `python3 dev.py demo`.
# More words for the command: `make test ARGS="-k conv"`.
PYTHON ?= python3

.PHONY: demo test test-all test-versions browser lint build clean
demo test test-all test-versions browser lint build clean:
	@$(PYTHON) dev.py $@ $(ARGS)
