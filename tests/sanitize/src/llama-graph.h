#pragma once
// The copied headers name this and use nothing of it.
struct llm_graph_params;
