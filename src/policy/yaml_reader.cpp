// YAML by libyaml's events. Aliases are kept as such and never expanded, so a small text cannot stand for a large tree;
// validation rejects them (report_faults), as Kubernetes objects do not need them. libyaml's own words are
// turned into advice here; what libyaml does in more than linear time (%TAG) is refused before it starts.
#include <yaml.h>

#include "policy/readers.h"

namespace casa::policy {
namespace {

struct Parser {
  yaml_parser_t raw{};
  bool ok;
  Parser() : ok(yaml_parser_initialize(&raw) == 1) {}
  Parser(const Parser&) = delete;
  Parser& operator=(const Parser&) = delete;
  ~Parser() {
    if (ok) yaml_parser_delete(&raw);
  }
};

struct Event {
  yaml_event_t raw{};
  Event() = default;
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  ~Event() { yaml_event_delete(&raw); }
};

// libyaml's words, and what a person should do about them.
struct Hint {
  std::string_view problem, message;
};
constexpr Hint kHints[] = {
    {"could not find expected ':'", "this line has no ':'; write \"name: value\" (is the file written completely?)"},
    {"mapping values are not allowed",
     "a ':' that cannot be here; indent the field like its neighbours, or put the value in quotes"},
    {"did not find expected key",
     "neither a field of this mapping nor its end; indent it like its neighbours, or put the value before it in "
     "quotes"},
    {"did not find expected '-' indicator",
     "not an entry of this list; begin it with \"- \", or indent it like the field it belongs to"},
    {"block sequence entries are not allowed",
     "a list cannot begin here; write \"- \" on a line of its own below the field's name"},
    {"did not find expected ',' or ']'",
     "a list in [ ] that goes on or ends wrongly; write ',' between entries and ']' at its end (is the file written "
     "completely?)"},
    {"did not find expected ',' or '}'",
     "a mapping in { } that goes on or ends wrongly; write ',' between fields and '}' at its end (is the file written "
     "completely?)"},
    {"found unexpected end of stream",
     "a text in quotes that never ends; close the quote (is the file written completely?)"},
    {"found unexpected document indicator", "--- inside a text in quotes; close the quote before it"},
    {"did not find expected <document start>", "something after the end of a document; begin a new document with ---"},
    {"found a tab character", "a tab cannot indent YAML; use spaces"},
    {"found unknown escape character",
     "an unknown escape in double quotes; write \\\\ for a backslash, or use single quotes"},
    {"found invalid Unicode character escape code",
     "not a character's number; write a valid \\u escape, or the character itself"},
    {"did not find expected hexdecimal number", "an escape that breaks off; write \\xHH, \\uHHHH or \\UHHHHHHHH"},
    {"did not find expected node content",
     "a value is expected here; write it, or put it in quotes (is the file written completely?)"},
    {"found undefined tag handle", "tags (!name) are not supported; remove it"},
    {"found incompatible YAML document", "an unknown YAML version; write %YAML 1.2, or remove the line"},
    {"found unexpected ':'", "a ':' inside an unquoted text in [ ] or { }; put the text in quotes"},
};

void report_syntax(const SourceText& source, const yaml_parser_t& parser, Report& report) {
  std::size_t offset = source.byte_of_char(parser.problem_mark.index);
  Position at = source.at_byte(offset);
  std::string_view problem = parser.problem == nullptr ? "" : parser.problem;
  std::string_view context = parser.context == nullptr ? "" : parser.context;
  if (parser.error == YAML_MEMORY_ERROR) return report.error(at, "out of memory; split the file");
  if (context.find("directive") != std::string_view::npos || problem.find("directive") != std::string_view::npos) {
    return report.error(at,
                        "a line that begins with % and is no valid directive; remove it, or put the text in quotes");
  }
  if (context.find("tag") != std::string_view::npos)
    return report.error(at, "tags (!name) are not supported; remove it");
  if (problem.starts_with("found character that cannot start any token")) {
    char c = offset < source.text().size() ? source.text()[offset] : ' ';
    if (c == '\t') return report.error(at, "a tab cannot indent YAML; use spaces");
    return report.error(at, "a value cannot begin with {}; put it in quotes", Quoted{{&c, 1}});
  }
  if (problem.starts_with("found unexpected end of stream"))
    at = source.at_char(parser.context_mark.index);  // the quote
  for (const Hint& hint : kHints) {
    if (problem.starts_with(hint.problem)) return report.error(at, "{}", hint.message);
  }
  report.error(at, "not YAML: {}; correct the line, or put its value in quotes", problem);
}

// libyaml compares each %TAG with all before it; nobody needs any.
bool check_directives(const SourceText& source, Report& report) {
  std::string_view text = source.text();
  for (std::size_t i = 0; i != std::string_view::npos && i < text.size();) {
    if (text.substr(i).starts_with("%TAG")) {
      report.error(source.at_byte(i), "%TAG directives are not supported; remove the line");
      return false;
    }
    i = text.find_first_of("\r\n", i);
    if (i != std::string_view::npos) ++i;
  }
  return true;
}

class YamlReader {
 public:
  YamlReader(const SourceText& source, TreeBuilder& builder, Report& report, const OnDocument& on_document)
      : source_(source), builder_(builder), report_(report), on_document_(on_document) {}

  bool run() {
    std::string_view text = source_.text();
    if (!check_directives(source_, report_)) return false;
    Parser parser;
    if (!parser.ok) {
      report_.error({}, "out of memory; split the file");
      return false;
    }
    yaml_parser_set_encoding(&parser.raw, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&parser.raw, reinterpret_cast<const unsigned char*>(text.data()), text.size());
    while (true) {
      Event event;
      if (yaml_parser_parse(&parser.raw, &event.raw) != 1) {
        report_syntax(source_, parser.raw, report_);
        return false;
      }
      if (event.raw.type == YAML_STREAM_END_EVENT) return true;
      if (!handle(event.raw)) return false;
    }
  }

 private:
  bool handle(const yaml_event_t& event) {
    Position at = source_.at_char(event.start_mark.index);
    switch (event.type) {
      case YAML_SCALAR_EVENT: {
        const auto& scalar = event.data.scalar;
        std::string_view text(reinterpret_cast<const char*>(scalar.value), scalar.length);
        return builder_.add_scalar(at, text, scalar.style == YAML_PLAIN_SCALAR_STYLE, scalar.tag != nullptr);
      }
      case YAML_ALIAS_EVENT: return builder_.add_alias(at, reinterpret_cast<const char*>(event.data.alias.anchor));
      case YAML_SEQUENCE_START_EVENT:
        return builder_.begin(Node::Type::kSequence, at, event.data.sequence_start.tag != nullptr);
      case YAML_MAPPING_START_EVENT:
        return builder_.begin(Node::Type::kMapping, at, event.data.mapping_start.tag != nullptr);
      case YAML_SEQUENCE_END_EVENT:
      case YAML_MAPPING_END_EVENT: builder_.end(); return true;
      case YAML_DOCUMENT_END_EVENT:
        on_document_(builder_.root());
        builder_.clear();
        return true;
      default: return true;
    }
  }

  const SourceText& source_;
  TreeBuilder& builder_;
  Report& report_;
  const OnDocument& on_document_;
};

}  // namespace

bool read_yaml(const SourceText& source, TreeBuilder& builder, Report& report, const OnDocument& on_document) {
  return YamlReader(source, builder, report, on_document).run();
}

}  // namespace casa::policy
