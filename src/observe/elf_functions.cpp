#include "observe/elf_functions.h"

#include <elf.h>
#include <sys/stat.h>

#include <algorithm>
#include <vector>

#include "observe/go_table.h"

namespace casa::observe {
namespace {

constexpr std::size_t kMaxSections = 4096, kMaxSegments = 256;
constexpr std::uint64_t kMaxStrings = 64ull << 20;  // node has some 30 MB
constexpr std::uint64_t kMaxSymbols = 8ull << 20;
constexpr std::size_t kSymbolsAtOnce = 4096;

#if defined(__x86_64__)
constexpr Elf64_Half kMachine = EM_X86_64;
#elif defined(__aarch64__)
constexpr Elf64_Half kMachine = EM_AARCH64;
#endif

std::unexpected<Error> broken(const char* what) {
  return fail(ErrorCode::kInvalidArgument, "the ELF file is broken: {}", what);
}

class Reader {
 public:
  explicit Reader(int fd) : fd_(fd) {}

  Result<ElfFunctions> find(std::span<const std::string_view> exported, std::span<const std::string_view> go) {
    TRY(open());
    ElfFunctions found;
    const Elf64_Shdr* table = section(".gopclntab");
    found.is_go = table != nullptr || section(".go.buildinfo") != nullptr;
    if (found.is_go && !go.empty()) {
      TRY(look_up(SHT_SYMTAB, go, found));
      if (found.offsets.empty() && table != nullptr) TRY(look_up_go(*table, go, found));
    }
    if (!exported.empty()) TRY(look_up(SHT_DYNSYM, exported, found));
    return found;
  }

 private:
  bool read(std::uint64_t offset, void* to, std::size_t size) const {
    auto* bytes = static_cast<char*>(to);
    while (size > 0) {
      if (offset > std::uint64_t{INT64_MAX} - size) return false;
      ssize_t n = ::pread(fd_, bytes, size, static_cast<off_t>(offset));
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) return false;
      bytes += n;
      offset += static_cast<std::uint64_t>(n);
      size -= static_cast<std::size_t>(n);
    }
    return true;
  }

  Status open() {
    Elf64_Ehdr header{};
    if (!read(0, &header, sizeof header) || std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0)
      return fail(ErrorCode::kInvalidArgument, "it is no ELF file");
    if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_ident[EI_DATA] != ELFDATA2LSB ||
        header.e_machine != kMachine)
      return fail(ErrorCode::kInvalidArgument, "it is an ELF file of another machine");
    if (header.e_phentsize != sizeof(Elf64_Phdr) || header.e_phnum > kMaxSegments) return broken("its segments");
    segments_.resize(header.e_phnum);
    if (!read(header.e_phoff, segments_.data(), segments_.size() * sizeof(Elf64_Phdr))) return broken("its segments");
    if (header.e_shnum == 0) return {};  // without sections nothing can be looked up
    if (header.e_shentsize != sizeof(Elf64_Shdr) || header.e_shnum > kMaxSections) return broken("its sections");
    sections_.resize(header.e_shnum);
    if (!read(header.e_shoff, sections_.data(), sections_.size() * sizeof(Elf64_Shdr))) return broken("its sections");
    if (header.e_shstrndx >= sections_.size()) return broken("its sections' names");
    TRY_ASSIGN(section_names_, strings(sections_[header.e_shstrndx]));
    return {};
  }

  Result<std::string> strings(const Elf64_Shdr& section) const {
    if (section.sh_type == SHT_NOBITS || section.sh_size > kMaxStrings) return broken("a table of strings");
    // The file's size bounds what a made-up size can make us allocate.
    struct stat st{};
    if (::fstat(fd_, &st) != 0 || section.sh_size > static_cast<std::uint64_t>(st.st_size)) return broken("its size");
    std::string text(section.sh_size, '\0');
    if (!read(section.sh_offset, text.data(), text.size())) return broken("a table of strings");
    return text;
  }

  static std::string_view string_at(const std::string& table, std::size_t at) {
    if (at >= table.size()) return {};
    std::string_view rest = std::string_view(table).substr(at);
    return rest.substr(0, rest.find('\0'));
  }

  const Elf64_Shdr* section(std::string_view name) const {
    for (const auto& s : sections_)
      if (string_at(section_names_, s.sh_name) == name) return &s;
    return nullptr;
  }

  // Only code has functions; a probe anywhere else would change data.
  std::uint64_t file_offset(std::uint64_t address) const {
    for (const auto& s : segments_)
      if (s.p_type == PT_LOAD && (s.p_flags & PF_X) && address >= s.p_vaddr && address - s.p_vaddr < s.p_filesz)
        return address - s.p_vaddr + s.p_offset;
    return 0;
  }

  Status look_up(Elf64_Word type, std::span<const std::string_view> names, ElfFunctions& found) const {
    auto table = std::ranges::find(sections_, type, &Elf64_Shdr::sh_type);
    if (table == sections_.end()) return {};
    if (table->sh_entsize != sizeof(Elf64_Sym) || table->sh_link >= sections_.size()) return broken("its symbols");
    std::uint64_t count = table->sh_size / sizeof(Elf64_Sym);
    if (count > kMaxSymbols) return broken("its symbols");
    TRY_ASSIGN(std::string text, strings(sections_[table->sh_link]));
    std::vector<Elf64_Sym> symbols;
    for (std::uint64_t at = 0; at < count; at += symbols.size()) {
      symbols.resize(std::min<std::uint64_t>(kSymbolsAtOnce, count - at));
      if (!read(table->sh_offset + at * sizeof(Elf64_Sym), symbols.data(), symbols.size() * sizeof(Elf64_Sym)))
        return broken("its symbols");
      for (const auto& symbol : symbols) {
        if (ELF64_ST_TYPE(symbol.st_info) != STT_FUNC || symbol.st_shndx == SHN_UNDEF) continue;
        std::string_view name = string_at(text, symbol.st_name);
        if (std::ranges::find(names, name) == names.end()) continue;
        if (std::uint64_t offset = file_offset(symbol.st_value)) found.offsets.emplace(name, offset);
      }
    }
    return {};
  }

  Status look_up_go(const Elf64_Shdr& table, std::span<const std::string_view> names, ElfFunctions& found) const {
    const Elf64_Shdr* text = section(".text");
    if (text == nullptr) return {};
    TRY_ASSIGN(std::string bytes, strings(table));
    for (const auto& [name, offset] : find_in_go_table(bytes, names))
      if (std::uint64_t place = file_offset(text->sh_addr + offset)) found.offsets.emplace(name, place);
    return {};
  }

  int fd_;
  std::vector<Elf64_Phdr> segments_;
  std::vector<Elf64_Shdr> sections_;
  std::string section_names_;
};

}  // namespace

Result<ElfFunctions> find_functions(int fd, std::span<const std::string_view> exported,
                                    std::span<const std::string_view> go) {
  return Reader(fd).find(exported, go);
}

}  // namespace casa::observe
