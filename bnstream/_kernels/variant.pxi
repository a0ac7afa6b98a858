# One variant of the kernels. Each module _baseline, _x86_64_v3, ... consists of this file alone, compiled with the flags of
# its level. It offers the struct of functions `Kernels` in a capsule.
#
#   pairs              arithmetic on pairs of doubles
#   plan, blocks       how a view is divided, and where the elements of a block are
#   load, store        elements that cannot be accessed in place, from and to doubles
#   weights            which elements count, and how much
#   elements           those that are read and written in place
#   loops, runs, bytes the innermost loops: sums
#   extremes           the least and the greatest elements
#   maps               and results for each element
#   states, moments    states from sums, and their merging
#   track              what is tracked beside the states
#   shift, exact       what the sums are taken about, and what is done if they are not exact
#   affine, backward   normalization, and its gradients
#   elementwise        gradients of elementwise parameters
#   jobs               the functions of `Kernels`
#   fixed, piles       exact sums: in doubles where the range allows it, and where it does not
#   limbs              and as integers of many limbs

from cpython.pycapsule cimport PyCapsule_New
from cython.parallel cimport prange
from libc.math cimport INFINITY, NAN, fabs, fma, rint, sqrt
from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset

from bnstream._kernels._integers cimport add_integer, add_limb, add_limbs, multiply64
from bnstream._kernels._table cimport *

cdef extern from "level.h":
    pass

cdef extern from "kernels.h" nogil:
    ctypedef float f32 "bn_f32"
    ctypedef double f64 "bn_f64"
    ctypedef int16_t i16 "bn_i16"
    ctypedef uint16_t u16 "bn_u16"
    ctypedef int32_t i32 "bn_i32"
    ctypedef uint32_t u32 "bn_u32"
    ctypedef int64_t i64 "bn_i64"
    ctypedef uint64_t u64 "bn_u64"
    ctypedef struct f16 "bn_f16":
        uint16_t bits
    ctypedef struct bf16 "bn_bf16":
        uint16_t bits
    ctypedef double *f64_out "bn_f64_out"
    ctypedef int32_t *i32_out "bn_i32_out"
    ctypedef uint32_t *u32_out "bn_u32_out"
    double now "bn_now"()
    void prefetch "bn_prefetch"(const void *, Py_ssize_t)
    double half "bn_half"(uint16_t)
    double bfloat "bn_bfloat"(uint16_t)
    float as_float "bn_as_float"(uint32_t)
    double as_double "bn_as_double"(uint64_t)
    uint16_t to_half "bn_to_half"(double)
    uint16_t to_bfloat "bn_to_bfloat"(double)
    uint16_t swap16 "bn_swap16"(uint16_t)
    uint32_t swap32 "bn_swap32"(uint32_t)
    uint64_t swap64 "bn_swap64"(uint64_t)

cdef extern from "vectors.h" nogil:
    enum:
        VECTOR "BN_WIDTH"     # doubles of a vector
    ctypedef double vec "bn_vec"
    ctypedef uint8_t mask "bn_mask"
    vec get "bn_get"(const double *)
    void put "bn_put"(double *, vec)
    vec all_of "bn_all"(double)
    vec fma_of "bn_fma"(vec, vec, vec)
    vec plus "bn_plus"(vec, vec)
    vec minus "bn_minus"(vec, vec)
    double sum_of "bn_sum"(vec)
    mask first "bn_first"(Py_ssize_t)
    mask finite_of "bn_finite"(vec)
    mask infinite "bn_infinite"(vec)
    mask nonzero "bn_nonzero"(vec)
    mask flags_of "bn_flags"(const uint8_t *)
    mask flag_of "bn_flag"(uint8_t)
    vec keep "bn_keep"(vec, mask)
    bint any_of "bn_any"(mask)
    ctypedef int64_t longs "bn_longs"
    longs bits_of "bn_bits"(vec)
    longs get_longs "bn_get_longs"(const int64_t *)
    void put_longs "bn_put_longs"(int64_t *, longs)
    int64_t sum_of_longs "bn_sum_longs"(longs)
    bint any_set "bn_any_set"(longs)
    vec load_f32 "bn_load_f32"(const f32 *)
    vec load_f64 "bn_load_f64"(const f64 *)
    vec load_i16 "bn_load_i16"(const i16 *)
    vec load_u16 "bn_load_u16"(const u16 *)
    vec load_i32 "bn_load_i32"(const i32 *)
    vec load_u32 "bn_load_u32"(const u32 *)
    vec load_i64 "bn_load_i64"(const i64 *, vec, vec)
    vec load_u64 "bn_load_u64"(const u64 *, vec, vec)
    vec load_i8 "bn_load_i8"(const int8_t *)
    vec load_u8 "bn_load_u8"(const uint8_t *)
    vec load_f16 "bn_load_f16"(const f16 *)
    vec load_bf16 "bn_load_bf16"(const bf16 *)
    vec load_some_f32 "bn_load_some_f32"(const f32 *, Py_ssize_t)
    vec load_some_f64 "bn_load_some_f64"(const f64 *, Py_ssize_t)
    vec load_some_i16 "bn_load_some_i16"(const i16 *, Py_ssize_t)
    vec load_some_u16 "bn_load_some_u16"(const u16 *, Py_ssize_t)
    vec load_some_i32 "bn_load_some_i32"(const i32 *, Py_ssize_t)
    vec load_some_u32 "bn_load_some_u32"(const u32 *, Py_ssize_t)
    vec load_some_i64 "bn_load_some_i64"(const i64 *, Py_ssize_t, vec, vec)
    vec load_some_u64 "bn_load_some_u64"(const u64 *, Py_ssize_t, vec, vec)
    vec load_some_i8 "bn_load_some_i8"(const int8_t *, Py_ssize_t)
    vec load_some_u8 "bn_load_some_u8"(const uint8_t *, Py_ssize_t)
    vec load_some_f16 "bn_load_some_f16"(const f16 *, Py_ssize_t)
    vec load_some_bf16 "bn_load_some_bf16"(const bf16 *, Py_ssize_t)
    void store_f32 "bn_store_f32"(f32 *, vec)
    void store_f64 "bn_store_f64"(f64 *, vec)
    void stream_f32 "bn_stream_f32"(f32 *, vec)
    void stream_f64 "bn_stream_f64"(f64 *, vec)
    void wait_for_streams "bn_wait"()
    void stream_bytes "bn_stream_bytes"(void *, const void *, Py_ssize_t)
    void store_f16 "bn_store_f16"(f16 *, vec)
    void store_bf16 "bn_store_bf16"(bf16 *, vec)
    void store_some_f32 "bn_store_some_f32"(f32 *, vec, Py_ssize_t)
    void store_some_f64 "bn_store_some_f64"(f64 *, vec, Py_ssize_t)
    void store_some_bf16 "bn_store_some_bf16"(bf16 *, vec, Py_ssize_t)
    void store_some_f16 "bn_store_some_f16"(f16 *, vec, Py_ssize_t)

cdef extern from "extremes.h" nogil:
    mask below "bn_below"(vec, vec)
    mask not_number "bn_nan"(vec)
    vec pick "bn_pick"(mask, vec, vec)
    void decode_keys "bn_decode_keys"(uint16_t *, Py_ssize_t)
    void fill "bn_fill"(void *, Py_ssize_t, Py_ssize_t, uint64_t)
    void extremes_f32 "bn_extremes_f32"(const f32 *, Py_ssize_t, Py_ssize_t, Py_ssize_t, void *, void *)
    void extremes_of_run_f32 "bn_extremes_of_run_f32"(const f32 *, Py_ssize_t, void *, void *)
    void extremes_f64 "bn_extremes_f64"(const f64 *, Py_ssize_t, Py_ssize_t, Py_ssize_t, void *, void *)
    void extremes_of_run_f64 "bn_extremes_of_run_f64"(const f64 *, Py_ssize_t, void *, void *)
    void extremes_f16 "bn_extremes_f16"(const f16 *, Py_ssize_t, Py_ssize_t, Py_ssize_t, void *, void *)
    void extremes_of_run_f16 "bn_extremes_of_run_f16"(const f16 *, Py_ssize_t, void *, void *)
    void extremes_bf16 "bn_extremes_bf16"(const bf16 *, Py_ssize_t, Py_ssize_t, Py_ssize_t, void *, void *)
    void extremes_of_run_bf16 "bn_extremes_of_run_bf16"(const bf16 *, Py_ssize_t, void *, void *)
    void extremes_i16 "bn_extremes_i16"(const i16 *, Py_ssize_t, Py_ssize_t, Py_ssize_t, void *, void *)
    void extremes_of_run_i16 "bn_extremes_of_run_i16"(const i16 *, Py_ssize_t, void *, void *)
    void extremes_u16 "bn_extremes_u16"(const u16 *, Py_ssize_t, Py_ssize_t, Py_ssize_t, void *, void *)
    void extremes_of_run_u16 "bn_extremes_of_run_u16"(const u16 *, Py_ssize_t, void *, void *)
    void extremes_i32 "bn_extremes_i32"(const i32 *, Py_ssize_t, Py_ssize_t, Py_ssize_t, void *, void *)
    void extremes_of_run_i32 "bn_extremes_of_run_i32"(const i32 *, Py_ssize_t, void *, void *)
    void extremes_u32 "bn_extremes_u32"(const u32 *, Py_ssize_t, Py_ssize_t, Py_ssize_t, void *, void *)
    void extremes_of_run_u32 "bn_extremes_of_run_u32"(const u32 *, Py_ssize_t, void *, void *)
    void extremes_i64 "bn_extremes_i64"(const i64 *, Py_ssize_t, Py_ssize_t, Py_ssize_t, void *, void *)
    void extremes_of_run_i64 "bn_extremes_of_run_i64"(const i64 *, Py_ssize_t, void *, void *)
    void extremes_u64 "bn_extremes_u64"(const u64 *, Py_ssize_t, Py_ssize_t, Py_ssize_t, void *, void *)
    void extremes_of_run_u64 "bn_extremes_of_run_u64"(const u64 *, Py_ssize_t, void *, void *)
    void extremes_i8 "bn_extremes_i8"(const int8_t *, Py_ssize_t, Py_ssize_t, Py_ssize_t, void *, void *)
    void extremes_of_run_i8 "bn_extremes_of_run_i8"(const int8_t *, Py_ssize_t, void *, void *)
    void extremes_u8 "bn_extremes_u8"(const uint8_t *, Py_ssize_t, Py_ssize_t, Py_ssize_t, void *, void *)
    void extremes_of_run_u8 "bn_extremes_of_run_u8"(const uint8_t *, Py_ssize_t, void *, void *)

include "pairs.pxi"
include "plan.pxi"
include "load.pxi"
include "store.pxi"
include "weights.pxi"
include "blocks.pxi"
include "elements.pxi"
include "bytes.pxi"
include "loops.pxi"
include "runs.pxi"
include "extremes.pxi"
include "maps.pxi"
include "states.pxi"
include "moments.pxi"
include "track.pxi"
include "shift.pxi"
include "exact.pxi"
include "affine.pxi"
include "backward.pxi"
include "elementwise.pxi"
include "jobs.pxi"
include "fixed.pxi"
include "piles.pxi"
include "limbs.pxi"

cdef Kernels kernels
kernels.accumulate = accumulate
kernels.affine = affine
kernels.standardize = standardize
kernels.gradients = gradients
kernels.backward = backward
kernels.convert = convert
kernels.merge = merge
kernels.exact = exact
kernels.accumulate_tracked = accumulate_tracked
kernels.merge_tracked = merge_tracked

capsule = PyCapsule_New(&kernels, "bnstream.kernels", NULL)
