/* The variant id of a worker that nobody gave one: cargo's own binaries and tests.
 *
 * It is an archive member of its own, so a linker takes it only if no object file on the command
 * line defines the symbol. xtask writes such a file for every variant; records refuse "unlinked". */
extern const char bench_variant_id[];
const char bench_variant_id[] = "unlinked";
