/* What a link may or may not define: the sanitizers' functions. */
__attribute__((weak)) void __asan_init(void);
__attribute__((weak)) void __tsan_init(void);
__attribute__((weak)) int __lsan_do_recoverable_leak_check(void);
__attribute__((weak)) void __sanitizer_purge_allocator(void);

/* The sanitizer whose runtime is linked, as far as a program can tell. */
const char *model_tests_sanitizer(void) {
	return __asan_init ? "address" : __tsan_init ? "thread" : "none";
}

/* Prints leaks to standard error; returns 1 if there are any, 0 if not, -1 if nobody can tell. */
int model_tests_leaks(void) {
	return __lsan_do_recoverable_leak_check ? __lsan_do_recoverable_leak_check() : -1;
}

/* Lets go of the freed blocks that a sanitizer keeps to find uses of them. */
void model_tests_purge(void) {
	if (__sanitizer_purge_allocator)
		__sanitizer_purge_allocator();
}
