cdef int threads_for(Py_ssize_t n_bytes, object n_threads) except -1
