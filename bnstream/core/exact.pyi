# Nothing for Python: what it holds is for cimport.
