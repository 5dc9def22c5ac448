"""Prompts to elements: by rules, by a language model, or by a server that has one."""
