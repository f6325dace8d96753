// See policy_files.h. Never opens anything but regular files, so that a FIFO cannot hang it nor a device be touched, and reads no
// more of one than the parser takes.
#include "cli/policy_files.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <utility>

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

class Reader {
 public:
  Reader(std::string_view command, std::FILE* out) : command_(command), out_(out) {}

  void add_path(const std::string& path) {
    if (path == "-") return add_result("<stdin>", read_bounded(STDIN_FILENO, "standard input"), policy::Syntax::kYaml);
    std::error_code ec;
    if (fs::is_directory(path, ec)) return add_directory(path);
    add_result(path, read_file(path), policy::syntax_of(path));
  }

  PolicyFiles take() { return std::move(found_); }

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
    ++found_.files;
    auto result = policy::parse_text(name, *bytes, syntax);
    found_.errors += result.omitted_errors;
    found_.warnings += result.omitted_warnings;
    for (const auto& d : result.diagnostics) print(d);
    if (result.omitted_errors + result.omitted_warnings > 0) {
      // The last line only tells of the others.
      --(result.diagnostics.back().severity == Diagnostic::Severity::kError ? found_.errors : found_.warnings);
    }
    for (auto& object : result.objects) {
      check_duplicate(object);
      found_.objects.push_back(std::move(object));
    }
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
    ++(d.severity == Diagnostic::Severity::kError ? found_.errors : found_.warnings);
    fmt::print(out_, "{}\n", to_string(d));
  }

  void print_unreadable(const std::string& message) {
    found_.unreadable = true;
    ++found_.errors;
    fmt::print(out_, "{}: error: {}\n", command_, message);
  }

  std::string_view command_;
  std::FILE* out_;
  std::map<policy::ObjectKey, policy::Location> seen_;
  PolicyFiles found_;
};

}  // namespace

PolicyFiles read_policy_files(std::span<const std::string> paths, std::string_view command, std::FILE* out) {
  Reader reader(command, out);
  for (const auto& path : paths) reader.add_path(path);
  return reader.take();
}

}  // namespace casa::cli
