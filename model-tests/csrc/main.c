/* Entry of the program that xtask links: everything else is in the Rust static library. */
int model_tests_main(int argc, char **argv);

int main(int argc, char **argv) { return model_tests_main(argc, argv); }
