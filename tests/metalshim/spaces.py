"""Lets clang (libclang, from PyPI) look at the kernels with address spaces:
spaces.py kernels.cpp [FLAG...]"""

import sys

from clang.cindex import Diagnostic, Index

unit = Index.create().parse(sys.argv[1], args=sys.argv[2:])
errors = [d for d in unit.diagnostics if d.severity >= Diagnostic.Error]
for d in errors:
    print(f"{d.location.file}:{d.location.line}: {d.spelling}")
sys.exit(len(errors) > 0)
