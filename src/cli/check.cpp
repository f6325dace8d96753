// See check.h. Never opens anything but regular files, so that a FIFO cannot hang it nor a device be touched, and reads no
// more of one than the parser takes. Everything that it says goes to the given stream, in the order of the paths and,
// below a directory, of the names.
#include "cli/check.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <map>

#include "base/error.h"
#include "base/fd.h"
#include "policy/parse.h"

namespace casa::cli {
namespace {

namespace fs = std::filesystem;
using policy::Diagnostic;

constexpr std::size_t kReadChunk = 65536;

Result<std::string> read_bounded(int fd, const std::string& path) {
  std::string bytes;
  while (bytes.size() <= policy::kMaxFileBytes) {
    std::size_t old = bytes.size();
    bytes.resize(old + kReadChunk);
    ssize_t n = ::read(fd, bytes.data() + old, kReadChunk);
    bytes.resize(old + static_cast<std::size_t>(std::max<ssize_t>(n, 0)));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail_errno(errno, "{} cannot be read", path);
    if (n == 0) break;
  }
  return bytes;
}

Result<std::string> read_file(const std::string& path) {
  struct stat info{};
  if (::stat(path.c_str(), &info) != 0) return fail_errno(errno, "{}", path);
  Error special{ErrorCode::kInvalidArgument, fmt::format("{}: not a regular file; name a file or a directory", path)};
  if (!S_ISREG(info.st_mode)) return std::unexpected(special);
  Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (!fd) return fail_errno(errno, "{}", path);
  // Asked again: the name may have become another file in between.
  if (::fstat(fd.get(), &info) != 0) return fail_errno(errno, "{}", path);
  if (!S_ISREG(info.st_mode)) return std::unexpected(special);
  return read_bounded(fd.get(), path);
}

bool is_policy_name(const fs::path& path) {
  auto extension = path.extension();
  return extension == ".yaml" || extension == ".yml" || extension == ".json";
}

class Check {
 public:
  explicit Check(std::FILE* out) : out_(out) {}

  void add_path(const std::string& path) {
    if (path == "-") return add_result("<stdin>", read_bounded(STDIN_FILENO, "standard input"), policy::Syntax::kYaml);
    std::error_code ec;
    if (fs::is_directory(path, ec)) return add_directory(path);
    add_result(path, read_file(path), policy::syntax_of(path));
  }

  int finish() {
    auto count = [](std::size_t n, std::string_view word) {
      return fmt::format("{} {}{}", n, word, n == 1 ? "" : "s");
    };
    fmt::print(out_, "{}, {}: {}, {}\n", count(files_, "file"), count(objects_, "object"), count(errors_, "error"),
               count(warnings_, "warning"));
    if (unreadable_) return 2;
    return errors_ > 0 ? 1 : 0;
  }

 private:
  void add_directory(const std::string& directory) {
    std::vector<std::string> found;
    std::error_code ec;
    auto it = fs::recursive_directory_iterator(directory, ec);
    for (; !ec && it != fs::recursive_directory_iterator(); it.increment(ec)) {
      if (it->path().filename().native().starts_with('.')) {
        it.disable_recursion_pending();
      } else if (is_policy_name(it->path())) {
        std::error_code kind_ec;
        if (!it->is_directory(kind_ec)) found.push_back(it->path().string());
      }
    }
    if (ec) print_unreadable(fmt::format("{}: {}", directory, ec.message()));
    std::ranges::sort(found);
    for (const auto& path : found) add_result(path, read_file(path), policy::syntax_of(path));
  }

  void add_result(const std::string& name, const Result<std::string>& bytes, policy::Syntax syntax) {
    if (!bytes) return print_unreadable(bytes.error().context);
    ++files_;
    auto result = policy::parse_text(name, *bytes, syntax);
    objects_ += result.objects.size();
    errors_ += result.omitted_errors;
    warnings_ += result.omitted_warnings;
    for (const auto& d : result.diagnostics) print(d);
    if (result.omitted_errors + result.omitted_warnings > 0) {
      // The last line only tells of the others.
      --(result.diagnostics.back().severity == Diagnostic::Severity::kError ? errors_ : warnings_);
    }
    for (const auto& object : result.objects) check_duplicate(object);
  }

  void check_duplicate(const policy::Object& object) {
    const auto& where = policy::meta_of(object).where;
    auto [first, is_new] = seen_.emplace(policy::key_of(object), where);
    if (is_new) return;
    print({Diagnostic::Severity::kError, where,
           fmt::format("{} is already defined at {}:{}; remove one of the two, or give it another name",
                       to_string(first->first), first->second.file, first->second.line)});
  }

  void print(const Diagnostic& d) {
    ++(d.severity == Diagnostic::Severity::kError ? errors_ : warnings_);
    fmt::print(out_, "{}\n", to_string(d));
  }

  void print_unreadable(const std::string& message) {
    unreadable_ = true;
    ++errors_;
    fmt::print(out_, "casad check: error: {}\n", message);
  }

  std::FILE* out_;
  std::map<policy::ObjectKey, policy::Location> seen_;
  std::size_t files_ = 0, objects_ = 0, errors_ = 0, warnings_ = 0;
  bool unreadable_ = false;
};

}  // namespace

int run_check(std::span<const std::string> paths, std::FILE* out) {
  if (paths.empty()) {
    fmt::print(out, "casad check: error: no file is named; write casad check FILE|DIR...\n");
    return 2;
  }
  Check check(out);
  for (const auto& path : paths) check.add_path(path);
  return check.finish();
}

}  // namespace casa::cli
