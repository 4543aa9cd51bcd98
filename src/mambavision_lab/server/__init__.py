"""Serve a network over HTTP: requests to images, images to batches, answers to JSON.

It knows no config and starts no web server: the task hands it a trained network and limits.
"""
