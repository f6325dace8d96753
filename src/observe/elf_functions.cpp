#include "observe/elf_functions.h"

#include <elf.h>
#include <sys/stat.h>

#include <algorithm>
#include <vector>

#include "observe/go_code.h"
#include "observe/go_table.h"

namespace casa::observe {
namespace {

constexpr std::size_t kMaxSections = 4096, kMaxSegments = 256;
constexpr std::uint64_t kMaxStrings = 64ull << 20;  // node has some 30 MB
constexpr std::uint64_t kMaxSymbols = 8ull << 20;
constexpr std::size_t kSymbolsAtOnce = 4096;
constexpr std::uint64_t kMaxGoFunction = 64u << 10;
// In .go.module, the runtime's description of the program (Go 1.26): where the address of the text stands.
constexpr std::uint64_t kModuleText = 22 * 8;

// In memory, as the file says.
struct Extent {
  std::uint64_t address = 0, size = 0;
};
using Extents = std::map<std::string, Extent>;

#if defined(__x86_64__)
constexpr Elf64_Half kMachine = EM_X86_64;
constexpr Machine kGoMachine = Machine::kAmd64;
#elif defined(__aarch64__)
constexpr Elf64_Half kMachine = EM_AARCH64;
constexpr Machine kGoMachine = Machine::kArm64;
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
    // A position-independent program has the table among what the dynamic linker writes.
    const Elf64_Shdr* table = section(".gopclntab");
    if (table == nullptr) table = section(".data.rel.ro.gopclntab");
    found.is_go = table != nullptr || section(".go.buildinfo") != nullptr;
    if (found.is_go && !go.empty()) {
      TRY_ASSIGN(Extents symbols, look_up(SHT_SYMTAB, go));
      for (const auto& [name, extent] : symbols) add_go(name, extent, found);
      if (found.functions.empty() && table != nullptr) TRY(look_up_go(*table, go, found));
    }
    if (!exported.empty()) {
      TRY_ASSIGN(Extents symbols, look_up(SHT_DYNSYM, exported));
      for (const auto& [name, extent] : symbols)
        if (std::uint64_t offset = file_offset(extent.address)) found.functions[name] = {offset, {}};
    }
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

  Result<Extents> look_up(Elf64_Word type, std::span<const std::string_view> names) const {
    Extents found;
    auto table = std::ranges::find(sections_, type, &Elf64_Shdr::sh_type);
    if (table == sections_.end()) return found;
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
        found.emplace(name, Extent{symbol.st_value, symbol.st_size});
      }
    }
    return found;
  }

  // Where the text begins that the table counts from: not at its section's beginning if a C compiler's linker has put code of its own
  // there. Which versions say so where differs, and before it is loaded a program may have zeros there, so each answer is tried: what
  // stands at a wrong place is no function of just that size.
  Status look_up_go(const Elf64_Shdr& table, std::span<const std::string_view> names, ElfFunctions& found) const {
    TRY_ASSIGN(std::string bytes, strings(table));
    const auto functions = find_in_go_table(bytes, names);
    std::uint64_t in_module = 0;
    const Elf64_Shdr *module = section(".go.module"), *text = section(".text");
    if (module != nullptr && module->sh_type != SHT_NOBITS && module->sh_size >= kModuleText + sizeof in_module)
      (void)read(module->sh_offset + kModuleText, &in_module, sizeof in_module);
    for (std::uint64_t begin : {go_table_text(bytes), in_module, text == nullptr ? 0 : text->sh_addr}) {
      if (begin == 0 || !found.functions.empty()) continue;
      for (const auto& [name, function] : functions) add_go(name, {begin + function.begin, function.size}, found);
    }
    return {};
  }

  void add_go(const std::string& name, const Extent& extent, ElfFunctions& found) const {
    std::uint64_t offset = file_offset(extent.address);
    if (offset == 0 || extent.size == 0 || extent.size > kMaxGoFunction ||
        !file_offset(extent.address + extent.size - 1))
      return;
    std::string code(extent.size, '\0');
    if (!read(offset, code.data(), code.size())) return;
    auto places = find_go_places(code, kGoMachine);
    if (!places) return;
    Function& function = found.functions[name];
    function.call = offset + places->call;
    for (std::uint64_t at : places->returns) function.returns.push_back(offset + at);
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
