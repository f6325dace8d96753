// Errors as values. Rooms return Result<T>; only app, api, cli and main log. An Error's context reads as a sentence for
// the person who must act: what failed, on what, and what to do about it where that is known.
#pragma once

#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <expected>
#include <string>
#include <utility>

namespace casa {

enum class ErrorCode {
  kInvalidArgument,  // the caller's input is wrong (flags, config, a query parameter)
  kNotFound,         // a thing that was named does not exist
  kBusy,             // somebody else holds it (a second daemon)
  kUnsupported,      // this kernel or build cannot do it
  kLimit,            // a stated limit would be exceeded
  kSystem,           // the operating system refused; context names the call and errno
  kInternal,         // a defect of casad
};

struct [[nodiscard]] Error {
  ErrorCode code = ErrorCode::kInternal;
  std::string context;
};

template <typename T>
using Result = std::expected<T, Error>;
using Status = Result<void>;

template <typename... Args>
std::unexpected<Error> fail(ErrorCode code, fmt::format_string<Args...> format, Args&&... args) {
  return std::unexpected(Error{code, fmt::format(format, std::forward<Args>(args)...)});
}

// An Error from errno (or a negative errno as libbpf returns it): "<what>: <strerror>".
template <typename... Args>
std::unexpected<Error> fail_errno(int err, fmt::format_string<Args...> format, Args&&... args) {
  if (err < 0) err = -err;
  return std::unexpected(Error{
      ErrorCode::kSystem, fmt::format("{}: {}", fmt::format(format, std::forward<Args>(args)...), std::strerror(err))});
}

}  // namespace casa

#define CASA_CONCAT_(a, b) a##b
#define CASA_CONCAT(a, b) CASA_CONCAT_(a, b)
// Evaluates an expression of type Result<...>; returns its error from the enclosing function.
#define TRY(expr)                                                         \
  do {                                                                    \
    auto&& casa_try_ = (expr);                                            \
    if (!casa_try_) return std::unexpected(std::move(casa_try_).error()); \
  } while (0)
// TRY_ASSIGN(auto x, expr): declares or assigns the value, or returns the error.
#define TRY_ASSIGN(target, expr)                                                                                      \
  auto CASA_CONCAT(casa_try_, __LINE__) = (expr);                                                                     \
  if (!CASA_CONCAT(casa_try_, __LINE__)) return std::unexpected(std::move(CASA_CONCAT(casa_try_, __LINE__)).error()); \
  target = std::move(*CASA_CONCAT(casa_try_, __LINE__))
