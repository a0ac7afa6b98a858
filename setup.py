"""The extensions: one variant of the kernels for each level of CPU, and what calls them. Metadata: pyproject.toml."""

import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

DEBUG = os.environ.get("BNSTREAM_DEBUG") == "1"
OPENMP = os.environ.get("BNSTREAM_OPENMP", "auto")      # auto, require, off
if OPENMP not in ("auto", "require", "off"):
    raise SystemExit(f"BNSTREAM_OPENMP must be 'require', 'off' or unset, got {OPENMP!r}")

DIRECTIVES = {
    "language_level": 3,
    "boundscheck": DEBUG,
    "wraparound": DEBUG,
    "initializedcheck": DEBUG,
    "cdivision": True,
    "embedsignature": True,
}

# A level's name is its flag, and what the CPU is asked for at import.
LEVELS = {
    "_x86_64_v3": ["-march=x86-64-v3"],
    "_x86_64_v4": ["-march=x86-64-v4", "-mprefer-vector-width=512"],
}
# The bits must be those of plain IEEE arithmetic at every level: no contraction, no sums in another order.
# Without -g0 the flags of Python itself, -g, would make the wheel four times as large.
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
LEVEL_PROBE = "int main(void) { return __builtin_cpu_supports(\"x86-64-v4\") < 0; }"


class Build(build_ext):
    """Asks the compiler what it can do, and builds accordingly."""

    def finalize_options(self):
        super().finalize_options()
        self.force = True       # an object file does not tell with which BNSTREAM_DEBUG or BNSTREAM_OPENMP it was built
        self.parallel = self.parallel or os.cpu_count()

    def build_extensions(self):
        msvc = self.compiler.compiler_type == "msvc"
        compile_flags, link_flags = self.openmp_flags(msvc)
        levels = self.levels(msvc)
        for extension in self.extensions:
            level = extension.name.rpartition(".")[2]
            extension.extra_compile_args = (MSVC_FLAGS if msvc else FLAGS) + compile_flags + levels.get(level, [])
            extension.extra_link_args = list(link_flags)
            extension.define_macros.append(("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION"))
            if level in ("_baseline", *LEVELS) and not msvc:     # each literal flag makes a loop of its own
                extension.define_macros.append(("CYTHON_INLINE", "inline __attribute__((always_inline))"))
            if levels:
                extension.define_macros.append(("BN_LEVELS", "1"))
        self.extensions = [e for e in self.extensions if e.name.rpartition(".")[2] not in LEVELS.keys() - levels.keys()]
        super().build_extensions()

    def probe(self, source, compile_flags=(), link_flags=(), run=True):
        """Whether a program compiles, links and, if wanted, runs."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "probe.c")
            path.write_text(source, encoding="utf-8")
            try:
                objects = self.compiler.compile([str(path)], folder, extra_postargs=list(compile_flags))
                self.compiler.link_executable(objects, "probe", folder, extra_postargs=list(link_flags))
                program = Path(folder, self.compiler.executable_filename("probe"))
                return not run or subprocess.run([program], timeout=60, check=False).returncode == 0
            except Exception as error:      # each compiler class has errors of its own
                print(f"probe failed: {error}", file=sys.stderr)
                return False

    def openmp_flags(self, msvc):
        if OPENMP == "off":
            return [], []
        for flags in [(["/openmp"], [])] if msvc else OPENMP_FLAGS:
            if self.probe(OPENMP_PROBE, *flags):
                return flags
        if OPENMP == "require":
            raise SystemExit("BNSTREAM_OPENMP=require, but no OpenMP program compiles, links and runs here")
        print("\n*** bnstream: no OpenMP found, every call will run on one thread ***\n", file=sys.stderr)
        return [], []

    def levels(self, msvc):
        if msvc or platform.machine().lower() not in ("x86_64", "amd64"):
            return {}
        return {name: flags for name, flags in LEVELS.items() if self.probe(LEVEL_PROBE, flags, run=False)}


# All Cython sources belong to every extension: in a source distribution, which else would hold only the C made of them.
SOURCES = sorted(str(path) for ending in ("pyx", "pxd", "pxi", "h") for path in Path("bnstream").rglob(f"*.{ending}"))


def extension(name):
    source = f"bnstream/{name.replace('.', '/')}.pyx"
    return Extension(f"bnstream.{name}", [source], depends=SOURCES, include_dirs=[numpy.get_include()])


setup(
    ext_modules=cythonize(
        [
            *(extension(f"_kernels.{name}") for name in ("_baseline", *LEVELS)),
            extension("_kernels._runtime"),
            *(extension(f"core.{name}") for name in ("view", "result", "forward", "functional", "moments")),
            extension("streams.sources.valid"),
        ],
        build_dir="build/cython-debug" if DEBUG else "build/cython",
        compiler_directives=DIRECTIVES,
    ),
    cmdclass={"build_ext": Build},
)
