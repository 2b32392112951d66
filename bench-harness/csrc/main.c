/* Entry of the worker that xtask links: everything else is in the Rust static library. */
int bench_worker_main(int argc, char **argv);

int main(int argc, char **argv) { return bench_worker_main(argc, argv); }
