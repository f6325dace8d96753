/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * SHA-256 (FIPS 180-4) for BPF. The message schedule is made in place, in the block itself: a program has 512 bytes of stack for all
 * functions that it is in.
 */
#ifndef CASA_BPF_SHA256_H
#define CASA_BPF_SHA256_H

#include "casa/abi/token.h"

#define CASA_SHA256_BLOCK 64

/* Each value passes through a register before it goes on, or the compiler keeps so many at once that the stack overflows. */
#define CASA_SHA_KEEP(x) asm volatile("" : "+r"(x))
#define CASA_SHA_ROTATE(x, n) ((x) >> (n) | (x) << (32 - (n)))
#define CASA_SHA_ROUND(a, b, c, d, e, f, g, h, k, w)                                                                   \
  {                                                                                                                    \
    casa_u32 t = (h) + (CASA_SHA_ROTATE(e, 6) ^ CASA_SHA_ROTATE(e, 11) ^ CASA_SHA_ROTATE(e, 25)) +                     \
                 ((g) ^ ((e) & ((f) ^ (g)))) + (k) + (w);                                                              \
    (d) += t;                                                                                                          \
    (h) = t + (CASA_SHA_ROTATE(a, 2) ^ CASA_SHA_ROTATE(a, 13) ^ CASA_SHA_ROTATE(a, 22)) +                              \
          (((a) & (b)) | ((c) & ((a) | (b))));                                                                         \
    CASA_SHA_KEEP(d);                                                                                                  \
    CASA_SHA_KEEP(h);                                                                                                  \
  }

static __always_inline casa_u32 casa_sha_load(casa_u32 *w, casa_u32 i) {
  casa_u32 x = __builtin_bswap32(w[i & 15]);
  CASA_SHA_KEEP(x);
  w[i & 15] = x;
  return x;
}

static __always_inline casa_u32 casa_sha_extend(casa_u32 *w, casa_u32 i) {
  casa_u32 a = w[(i - 15) & 15], b = w[(i - 2) & 15];
  casa_u32 x = w[i & 15] + (CASA_SHA_ROTATE(a, 7) ^ CASA_SHA_ROTATE(a, 18) ^ a >> 3) + w[(i - 7) & 15] +
               (CASA_SHA_ROTATE(b, 17) ^ CASA_SHA_ROTATE(b, 19) ^ b >> 10);
  CASA_SHA_KEEP(x);
  w[i & 15] = x;
  return x;
}

#define CASA_SHA_8(i, next, k0, k1, k2, k3, k4, k5, k6, k7)                                                            \
  CASA_SHA_ROUND(a, b, c, d, e, f, g, h, k0, next(w, (i) + 0))                                                         \
  CASA_SHA_ROUND(h, a, b, c, d, e, f, g, k1, next(w, (i) + 1))                                                         \
  CASA_SHA_ROUND(g, h, a, b, c, d, e, f, k2, next(w, (i) + 2))                                                         \
  CASA_SHA_ROUND(f, g, h, a, b, c, d, e, k3, next(w, (i) + 3))                                                         \
  CASA_SHA_ROUND(e, f, g, h, a, b, c, d, k4, next(w, (i) + 4))                                                         \
  CASA_SHA_ROUND(d, e, f, g, h, a, b, c, k5, next(w, (i) + 5))                                                         \
  CASA_SHA_ROUND(c, d, e, f, g, h, a, b, k6, next(w, (i) + 6))                                                         \
  CASA_SHA_ROUND(b, c, d, e, f, g, h, a, k7, next(w, (i) + 7))

static __always_inline void casa_sha256_begin(struct casa_sha256 *s) {
  s->h[0] = 0x6a09e667;
  s->h[1] = 0xbb67ae85;
  s->h[2] = 0x3c6ef372;
  s->h[3] = 0xa54ff53a;
  s->h[4] = 0x510e527f;
  s->h[5] = 0x9b05688c;
  s->h[6] = 0x1f83d9ab;
  s->h[7] = 0x5be0cd19;
}

/* Takes the block in `w`, and leaves no byte of it there. */
__noinline int casa_sha256_block(struct casa_sha256 *s) {
  if (!s)
    return 0;
  casa_u32 *w = s->w;
  casa_u32 a = s->h[0], b = s->h[1], c = s->h[2], d = s->h[3], e = s->h[4], f = s->h[5], g = s->h[6], h = s->h[7];
  CASA_SHA_8(0, casa_sha_load, 0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4,
             0xab1c5ed5)
  CASA_SHA_8(8, casa_sha_load, 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7,
             0xc19bf174)
  CASA_SHA_8(16, casa_sha_extend, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc,
             0x76f988da)
  CASA_SHA_8(24, casa_sha_extend, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351,
             0x14292967)
  CASA_SHA_8(32, casa_sha_extend, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e,
             0x92722c85)
  CASA_SHA_8(40, casa_sha_extend, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585,
             0x106aa070)
  CASA_SHA_8(48, casa_sha_extend, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f,
             0x682e6ff3)
  CASA_SHA_8(56, casa_sha_extend, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7,
             0xc67178f2)
  s->h[0] += a;
  s->h[1] += b;
  s->h[2] += c;
  s->h[3] += d;
  s->h[4] += e;
  s->h[5] += f;
  s->h[6] += g;
  s->h[7] += h;
  __builtin_memset(w, 0, CASA_SHA256_BLOCK);
  return 0;
}

/* The last block: `length` bytes went in, those behind the last full block stand in `w`, zeros behind them. `h` is the digest then. */
__noinline int casa_sha256_end(struct casa_sha256 *s, casa_u32 length) {
  if (!s)
    return 0;
  casa_u32 have = length & (CASA_SHA256_BLOCK - 1);
  ((casa_u8 *)s->w)[have] = 0x80;
  if (have >= CASA_SHA256_BLOCK - 8)
    casa_sha256_block(s);
  s->w[15] = __builtin_bswap32(length * 8);
  casa_sha256_block(s);
  return 0;
}

#endif
