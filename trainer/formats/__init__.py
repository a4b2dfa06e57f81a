"""Trained models as files for other runtimes, ONNX Runtime and LiteRT: conversion, check against the model, writing."""
