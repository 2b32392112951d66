/* The variant id of a worker that nobody gave one: cargo's own binaries and tests.
 *
 * Weak: another definition replaces it. xtask writes one for every variant; records refuse "unlinked". */
extern const char bench_variant_id[];
__attribute__((weak)) const char bench_variant_id[] = "unlinked";
