"""The extension modules: a variant of the kernels for each CPU level, and their callers. Metadata: pyproject.toml."""

import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build import build
from setuptools.command.build_ext import build_ext

DEBUG = os.environ.get("BNSTREAM_DEBUG") == "1"
OPENMP = os.environ.get("BNSTREAM_OPENMP", "auto")      # auto: use OpenMP if the compiler has it
if OPENMP not in ("auto", "require", "off"):
    raise SystemExit(f"BNSTREAM_OPENMP is {OPENMP!r}; expected 'require', 'off' or unset, which uses OpenMP if found")

WANTED_LEVELS = os.environ.get("BNSTREAM_LEVELS", "auto")      # auto: compile those that the compiler knows
if WANTED_LEVELS not in ("auto", "all", "baseline"):
    raise SystemExit(f"BNSTREAM_LEVELS is {WANTED_LEVELS!r}; expected 'all', 'baseline' or unset, which compiles those "
                     "that the compiler knows")

DIRECTIVES = {
    "language_level": 3,
    "boundscheck": DEBUG,
    "wraparound": DEBUG,
    "initializedcheck": DEBUG,
    "cdivision": True,
    "embedsignature": True,
    "freethreading_compatible": True,
}

# The extra flags of each variant. At import, the CPU must support the level named by -march.
LEVELS = {
    "_x86_64_v3": ["-march=x86-64-v3"],
    "_x86_64_v4": ["-march=x86-64-v4", "-mprefer-vector-width=512"],
}
# Every level must give the bits of plain IEEE arithmetic: no contraction and no reordered sums.
# -g0 overrides the -g in Python's own flags, which would make the wheel four times as large.
FLAGS = ["-O3", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", *([] if DEBUG else ["-g0"])]
MSVC_FLAGS = ["/O2", "/fp:precise"]

OPENMP_FLAGS = [
    (["-fopenmp"], ["-fopenmp"]),
    (["-Xpreprocessor", "-fopenmp"], ["-lomp"]),        # Apple's clang with Homebrew's libomp
]
OPENMP_PROBE = """
#include <omp.h>
int main(void) {
    int n = 0;
    #pragma omp parallel num_threads(2) reduction(+:n)
    n += 1;
    return n < 1;
}
"""
# Probes are linked with the flags of the modules. Findings of a sanitizer in a library of OpenMP do not matter to them.
CALLERS_FLAGS = [*shlex.split(os.environ.get("CFLAGS", "")), *shlex.split(os.environ.get("LDFLAGS", ""))]
SANITIZERS = {"ASAN_OPTIONS": "detect_leaks=0", "TSAN_OPTIONS": "exitcode=0 report_bugs=0"}
LEVEL_PROBE = "int main(void) { return __builtin_cpu_supports(\"x86-64-v4\") < 0; }"


class CleanBuild(build):
    """A build into an empty folder: modules of an earlier one would get into the wheel."""

    def run(self):
        shutil.rmtree(self.build_lib, ignore_errors=True)
        super().run()


class Build(build_ext):
    """A build with OpenMP and the CPU levels that the compiler supports."""

    def finalize_options(self):
        super().finalize_options()
        # Old object files may come from a build with another BNSTREAM_DEBUG or BNSTREAM_OPENMP.
        self.force = True
        self.parallel = self.parallel or os.cpu_count()

    def build_extensions(self):
        msvc = self.compiler.compiler_type == "msvc"
        compile_flags, link_flags, without = self.openmp_flags(msvc)
        levels = self.levels(msvc)
        for extension in self.extensions:
            level = extension.name.rpartition(".")[2]
            extension.extra_compile_args = (MSVC_FLAGS if msvc else FLAGS) + compile_flags + levels.get(level, [])
            extension.extra_link_args = list(link_flags)
            extension.define_macros.append(("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION"))
            extension.define_macros.append(("BN_WITHOUT_OPENMP", f'"{without}"'))
            # Inlining specializes the loops for each literal flag that they are called with.
            if level in ("_baseline", *LEVELS) and not msvc:
                extension.define_macros.append(("CYTHON_INLINE", "inline __attribute__((always_inline))"))
            if levels:
                extension.define_macros.append(("BN_LEVELS", "1"))
            if level in levels:
                name = levels[level][0].removeprefix("-march=")
                extension.define_macros += [("BN_LEVEL", f'"{name}"'), ("BN_INIT", f"PyInit_{level}")]
        self.extensions = [e for e in self.extensions if e.name.rpartition(".")[2] not in LEVELS.keys() - levels.keys()]
        super().build_extensions()

    def probe(self, source, compile_flags=(), link_flags=(), run=True):
        """Whether a program compiles, links and, with `run`, exits with 0."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "probe.c")
            path.write_text(source, encoding="utf-8")
            try:
                objects = self.compiler.compile([str(path)], folder, extra_postargs=list(compile_flags))
                flags = [*link_flags, *CALLERS_FLAGS]
                self.compiler.link_executable(objects, "probe", folder, extra_postargs=flags)
                program, env = Path(folder, self.compiler.executable_filename("probe")), os.environ | SANITIZERS
                return not run or subprocess.run([program], timeout=60, check=False, env=env).returncode == 0
            except Exception as error:      # Each compiler class has its own errors.
                print(f"probe failed: {error}", file=sys.stderr)
                return False

    def openmp_flags(self, msvc):
        """Flags for the compiler and the linker, and why there are none."""
        if OPENMP == "off":
            return [], [], "built with BNSTREAM_OPENMP=off"
        for flags in [(["/openmp"], [])] if msvc else OPENMP_FLAGS:
            if self.probe(OPENMP_PROBE, *flags):
                return *flags, ""
        if OPENMP == "require":
            raise SystemExit("BNSTREAM_OPENMP=require, but no OpenMP program compiles, links and runs here; "
                             "install OpenMP for this compiler, or unset BNSTREAM_OPENMP to build without")
        print("\n*** bnstream: no OpenMP found; every call will use one thread ***\n", file=sys.stderr)
        return [], [], "no OpenMP program compiled, linked and ran where it was built"

    def levels(self, msvc):
        """The flags of each level to compile."""
        if WANTED_LEVELS == "baseline" or msvc or platform.machine().lower() not in ("x86_64", "amd64"):
            return {}
        known = {name: flags for name, flags in LEVELS.items() if self.probe(LEVEL_PROBE, flags, run=False)}
        if WANTED_LEVELS == "all" and known.keys() != LEVELS.keys():
            raise SystemExit(f"BNSTREAM_LEVELS=all, but no program for {', '.join(LEVELS.keys() - known.keys())} "
                             "compiles and links here; take another compiler or other CFLAGS, or unset BNSTREAM_LEVELS")
        return known


# Every extension depends on all Cython sources. Otherwise a source distribution would contain only the generated C.
SOURCES = sorted(str(path) for ending in ("pyx", "pxd", "pxi", "h") for path in Path("bnstream").rglob(f"*.{ending}"))


def extension(name):
    source = f"bnstream/{name.replace('.', '/')}.pyx"
    return Extension(f"bnstream.{name}", [source], depends=SOURCES, include_dirs=[numpy.get_include()])


setup(
    ext_modules=cythonize(
        [
            *(extension(f"_kernels.{name}") for name in ("_baseline", *LEVELS)),
            extension("_kernels._runtime"),
            *(extension(f"core.{name}")
              for name in ("view", "result", "large", "forward", "instances", "functional", "exact", "moments",
                           "groups.sums")),
            extension("streams.sources.tables.valid"),
        ],
        build_dir="build/cython-debug" if DEBUG else "build/cython",
        compiler_directives=DIRECTIVES,
    ),
    cmdclass={"build": CleanBuild, "build_ext": Build},
)
