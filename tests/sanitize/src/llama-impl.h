#pragma once
// What the copied sources use of llama-impl.h.

#include <cstdarg>
#include <cstdio>
#include <string>
#include <vector>

__attribute__((format(printf, 1, 2))) inline std::string format(const char * fmt, ...) {
    va_list a, b;
    va_start(a, fmt);
    va_copy(b, a);
    const int n = vsnprintf(nullptr, 0, fmt, a);
    std::vector<char> buf(n + 1);
    vsnprintf(buf.data(), buf.size(), fmt, b);
    va_end(a);
    va_end(b);
    return std::string(buf.data(), n);
}

#define LLAMA_LOG_ERROR(...) do { if (false) { fprintf(stderr, __VA_ARGS__); } } while (0)
