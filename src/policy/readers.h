// Text to trees, one a document. A reader reports what is wrong with the syntax, knows nothing of kinds and fields, and
// never recurses deeper than kMaxDepth. The source has no problem() and outlives the call.
// A syntax error ends the reading of the whole file: where the next object begins cannot be known then.
#pragma once

#include <functional>

#include "policy/report.h"
#include "policy/source_text.h"
#include "policy/tree.h"
#include "policy/wanted.h"

namespace casa::policy {

// Called with each document's root (null: an empty document) when it is complete; the tree is gone afterwards.
using OnDocument = std::function<void(const Node*)>;

// False when the text could not be read to its end, which has been reported; `builder` then holds what was there of the
// last document.
bool read_yaml(const SourceText& source, TreeBuilder& builder, Report& report, const OnDocument& on_document);
bool read_json(const SourceText& source, TreeBuilder& builder, Report& report, const OnDocument& on_document);
// One object of an API server: of its fields the wanted ones, all at no line. What is not wanted is not even decoded.
bool read_api_json(std::string_view text, const Wanted& wanted, TreeBuilder& builder, Report& report,
                   const OnDocument& on_document);

}  // namespace casa::policy
