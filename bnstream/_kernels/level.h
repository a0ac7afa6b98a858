/* A module of a level that the CPU lacks raises ImportError. Without this, its first instructions would end the process,
 * even if a tool only imports every module of a package. The build defines BN_LEVEL, the level, and BN_INIT, the function
 * that Python calls. Cython's function of this name becomes bn_init. */
#ifdef BN_LEVEL
PyMODINIT_FUNC bn_init(void);

PyMODINIT_FUNC BN_INIT(void) {
    if (!__builtin_cpu_supports(BN_LEVEL)) {
        PyErr_SetString(PyExc_ImportError, "this CPU does not support " BN_LEVEL "; bnstream itself chooses a level that it "
                                           "supports");
        return NULL;
    }
    return bn_init();
}

#define PyInit__x86_64_v3 bn_init
#define PyInit__x86_64_v4 bn_init
#endif
